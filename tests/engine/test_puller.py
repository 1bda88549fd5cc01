"""Asking for images: once for all who want one, and again with back-off."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from lateen.runtime.engine.config import ImageConfig
from lateen.runtime.engine.errors import EngineAbsent, ImageRefused
from lateen.runtime.image_puller import ImagePuller
from lateen.runtime.node import wire

CONFIG = ImageConfig("0" * 64, cmd=("serve",))


class Side:
    """The machine's side, with the answers that a test wants."""

    def __init__(self, *answers: wire.Message) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []

    async def engine_image(self, image: str, policy: str) -> tuple[wire.Message, list[int]]:
        self.asked.append((image, policy))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer, [os.open(os.devnull, os.O_RDONLY)] if "root" in answer else []


GOOD: wire.Message = {"root": "/cache/0/root", "config": CONFIG.to_json()}
REFUSED: wire.Message = {"refused": {"reason": "ErrImagePull", "message": "image 'x': no route"}}


async def test_pods_that_want_the_same_image_ask_once() -> None:
    side = Side(GOOD)
    puller = ImagePuller(side)
    found = await asyncio.gather(*(puller.get("x:1", "", f"default/{n}") for n in range(5)))
    assert side.asked == [("x:1", "")]
    assert {image.root for image in found} == {"/cache/0/root"}
    assert found[0].config == CONFIG


async def test_a_failing_pull_backs_off_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    side = Side(REFUSED, REFUSED, GOOD)
    puller = ImagePuller(side)

    async def reason() -> tuple[str, str]:
        with pytest.raises(ImageRefused) as error:
            await puller.get("x:1", "Always", "default/a")
        return error.value.reason, str(error.value)

    assert await reason() == ("ErrImagePull", "image 'x': no route")
    waiting = "image 'x': no route; tried again after 10 s"
    assert await reason() == ("ImagePullBackOff", waiting)
    now += 9
    assert await reason() == ("ImagePullBackOff", waiting)
    now += 2
    assert (await reason())[0] == "ErrImagePull"
    now += 11
    assert (await reason())[1].endswith("tried again after 20 s")
    now += 10
    assert (await puller.get("x:1", "Always", "default/a")).root == "/cache/0/root"
    assert len(side.asked) == 3


async def test_one_pod_s_failure_is_not_another_s() -> None:
    puller = ImagePuller(Side(REFUSED, GOOD))
    with pytest.raises(ImageRefused):
        await puller.get("x:1", "", "default/a")
    assert (await puller.get("x:1", "", "default/b")).root == "/cache/0/root"


async def test_no_engine_is_believed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    side = Side({"absent": "nothing answers"}, GOOD)
    puller = ImagePuller(side)
    for _ in range(3):
        with pytest.raises(EngineAbsent, match="nothing answers"):
            await puller.get("x:1", "", "default/a")
    assert len(side.asked) == 1
    now += 31
    assert (await puller.get("x:1", "", "default/a")).config.cmd == ("serve",)


async def test_reasons_that_waiting_does_not_mend_keep_their_name() -> None:
    side = Side({"refused": {"reason": "InvalidImageName", "message": "'X' is not one"}})
    puller = ImagePuller(side)
    for _ in range(2):
        with pytest.raises(ImageRefused) as error:
            await puller.get("X", "", "default/a")
        assert error.value.reason == "InvalidImageName"
    assert len(side.asked) == 1
