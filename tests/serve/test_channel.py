"""Processes of one control plane talk over a channel, also in the moment in which one ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine

import pytest
import uvloop

from lateen.serve import channel
from lateen.serve.channel import Channel, ChannelClosed, Value


class Heard(list[Value]):
    """Keeps what is said, and answers with its length."""

    async def told(self, name: str, value: Value) -> Value:
        self.append(value)
        return len(value)


async def pair(ours: Heard, theirs: Heard) -> tuple[Channel, Channel]:
    ends = socket.socketpair()
    channels = Channel(ours.told), Channel(theirs.told)
    for one, end in zip(channels, ends, strict=True):
        await one.open(end)
    return channels


def in_loop(body: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run it in the loop that control planes use: asyncio's own is more lenient."""

    async def limited() -> None:
        async with asyncio.timeout(20):
            await body()

    uvloop.run(limited())


def test_messages_larger_than_any_buffer_arrive_in_order() -> None:
    async def body() -> None:
        ours, theirs = Heard(), Heard()
        one, other = await pair(ours, theirs)
        running = [asyncio.ensure_future(item.run()) for item in (one, other)]
        sent = [bytes([number]) * 3_000_000 for number in range(4)]
        for data in sent:
            one.notify("data", data)
            other.notify("data", data[:1_000_000])
        assert await one.call("data", b"last") == 4
        assert await other.call("data", b"last") == 4

        assert theirs == [*sent, b"last"]
        assert ours == [*(data[:1_000_000] for data in sent), b"last"]
        one.close()
        await asyncio.gather(*running)
        assert other.closed

    in_loop(body)


@pytest.mark.parametrize("passes", range(6))
def test_a_call_to_one_that_just_ended_fails_as_such(passes: int) -> None:
    """However many passes of the loop lie between the write that failed and the call."""

    async def body() -> None:
        ours, theirs = socket.socketpair()
        one = Channel(Heard().told)
        await one.open(ours)
        running = asyncio.ensure_future(one.run())
        theirs.close()
        one.notify("change")
        for _ in range(passes):
            await asyncio.sleep(0)
        one.notify("change")
        with pytest.raises(ChannelClosed):
            await one.call("wait")
        await running

    in_loop(body)


def test_all_is_heard_that_one_said_before_it_ended() -> None:
    async def body() -> None:
        ours, theirs = Heard(), Heard()
        one, other = await pair(ours, theirs)
        for number in range(100):
            other.notify("arrived", str(number))
        other.close()
        one.notify("change")
        await asyncio.sleep(0)
        one.notify("change")
        await one.run()
        assert ours == [str(number) for number in range(100)]
        assert one.closed

    in_loop(body)


def test_one_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_BACKLOG", 2_000_000)

    async def body() -> None:
        ours, theirs = Heard(), Heard()
        one, other = await pair(ours, theirs)
        other.notify("arrived", "before")
        running = asyncio.ensure_future(one.run())
        waiting = asyncio.ensure_future(one.call("wait"))
        for _ in range(5):
            one.notify("data", bytes(1_000_000))
        await running
        assert ours == ["before"]
        with pytest.raises(ChannelClosed):
            await waiting
        other.close()

    in_loop(body)
