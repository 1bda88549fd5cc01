"""Fair shares of streams, connections, bytes and names."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lateen.serve.asked_names import OVERHEAD, AskedNames
from lateen.serve.shares import Bounds, Client, Shares

ONE, OTHER, THIRD = Client("one", "10.0.0.1"), Client("other", "10.0.0.2"), Client("3", "10.0.0.3")


@dataclass(eq=False)
class Held:
    """A holder that remembers why it was evicted."""

    told: list[str] = field(default_factory=list)

    def evict(self, text: str) -> None:
        self.told.append(text)


def test_a_client_has_its_share_and_no_more() -> None:
    shares = Shares("streams", Bounds(client=4, identity=6, total=100))
    assert shares.hold(Held(), ONE, 4)
    assert not shares.hold(Held(), ONE, 1)
    assert shares.total == 4
    assert shares.refused == 1
    assert shares.exceeded_by == ONE


def test_an_identity_has_a_share_over_all_its_addresses() -> None:
    shares = Shares("streams", Bounds(client=4, identity=6, total=100))
    assert shares.hold(Held(), ONE, 4)
    assert not shares.hold(Held(), Client(ONE.identity, "10.9.9.9"), 3)
    assert shares.hold(Held(), Client(ONE.identity, "10.9.9.9"), 2)


def test_when_all_is_full_the_client_that_holds_most_makes_room() -> None:
    shares = Shares("streams", Bounds(client=8, identity=8, total=8))
    small, large = Held(), Held()
    assert shares.hold(small, ONE, 2)
    assert shares.hold(large, ONE, 3)
    assert shares.hold(Held(), OTHER, 3)
    assert shares.hold(Held(), THIRD, 1)
    assert large.told == ["others need the room: one has the most streams"]
    assert not small.told
    assert shares.total == 6


def test_a_client_takes_no_room_from_those_that_hold_no_more_than_itself() -> None:
    shares = Shares("streams", Bounds(client=8, identity=8, total=8))
    first = Held()
    assert shares.hold(first, ONE, 4)
    assert shares.hold(Held(), OTHER, 4)
    assert not shares.hold(Held(), THIRD, 4)
    assert not first.told


def test_what_is_released_can_be_held_again() -> None:
    shares = Shares("streams", Bounds(client=4, identity=4, total=4))
    held = Held()
    assert shares.hold(held, ONE, 4)
    assert shares.hold(held, ONE, 1)
    assert shares.hold(Held(), OTHER, 3)
    shares.release(held, ONE)
    shares.release(held, ONE)
    assert shares.total == 3
    assert shares.largest() == (OTHER, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 6)), max_size=40))
def test_sums_are_those_of_the_holders_and_no_bound_is_exceeded(
    steps: list[tuple[int, int, int]],
) -> None:
    bounds = Bounds(client=5, identity=7, total=11)
    shares = Shares("streams", bounds)
    holders = [Held() for _ in range(6)]
    clients = [Client("a", "1"), Client("a", "2"), Client("b", "1"), Client("c", "1")]
    owner: dict[int, Client] = {}
    amounts: dict[int, int] = {}
    for holder, client, amount in steps:
        mine = owner.setdefault(holder, clients[client])
        if shares.hold(holders[holder], mine, amount):
            amounts[holder] = amount
        for index, item in enumerate(holders):
            if item.told:
                amounts[index] = 0
                item.told.clear()
        assert shares.total == sum(amounts.values()) <= bounds.total
        for one in clients:
            held = sum(amounts.get(i, 0) for i, who in owner.items() if who == one)
            assert held <= bounds.client
            most = shares.largest()
            assert held <= (most[1] if most is not None else 0)


def names(count: int, letter: str = "x") -> frozenset[str]:
    return frozenset(f"{letter}{number:03}" for number in range(count))


def test_names_that_exist_cost_nothing() -> None:
    asked = AskedNames(Bounds(1, 1, 1))
    assert asked.keep("stream", ONE, print, "cds", names(9), dict.fromkeys(names(10)))
    assert asked.shares.total == 0


def test_made_up_names_are_counted_until_the_stream_is_over() -> None:
    each = 4 + OVERHEAD
    asked = AskedNames(Bounds(10 * each, 20 * each, 40 * each))
    assert asked.keep("stream", ONE, print, "cds", names(6), {})
    assert asked.shares.total == 6 * each
    assert not asked.keep("stream", ONE, print, "rds", names(5, "y"), {})
    assert asked.keep("stream", ONE, print, "cds", names(2), {})
    assert asked.shares.total == 2 * each
    asked.forget("stream")
    assert asked.shares.total == 0
    assert not asked._sets


def test_the_same_set_of_a_thousand_proxies_counts_once() -> None:
    each = 4 + OVERHEAD
    asked = AskedNames(Bounds(10 * each, 20 * each, 40 * each))
    same = names(9)
    clients = [Client(f"spiffe://{number}", "10.0.0.1") for number in range(1000)]
    for client in clients:
        assert asked.keep(client, client, print, "eds", same, {})
    assert asked.shares.total == 9 * each
    for client in clients[:-1]:
        asked.forget(client)
    assert asked.shares.largest() == (clients[-1], 9 * each)
    asked.forget(clients[-1])
    assert asked.shares.total == 0


def test_streams_of_the_client_with_most_names_end_when_others_need_the_room() -> None:
    each = 4 + OVERHEAD
    asked = AskedNames(Bounds(10 * each, 10 * each, 12 * each))
    ended: list[str] = []
    assert asked.keep("greedy", ONE, ended.append, "cds", names(10), {})
    assert asked.keep("modest", OTHER, print, "cds", names(3, "y"), {})
    assert ended == ["others need the room: one has the most bytes of names that do not exist"]
    asked.forget("greedy")
    asked.forget("modest")
    gc.collect()
    assert asked.shares.total == 0
