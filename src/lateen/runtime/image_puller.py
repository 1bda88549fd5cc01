"""Images from the container engine for the pods of a node, retried with back-off."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Protocol

from lateen.runtime.engine.config import ImageConfig, from_message
from lateen.runtime.engine.errors import EngineAbsent, ImageRefused
from lateen.runtime.node import wire

FIRST_BACKOFF = 10.0
"""Seconds after the first failure; doubles up to `LONGEST_BACKOFF` (the kubelet's numbers)."""
LONGEST_BACKOFF = 300.0
ABSENT_SECONDS = 30.0
"""How long the answer that there is no engine is believed."""


class EngineSide(Protocol):
    """The node's way to the engine."""

    async def engine_image(self, image: str, policy: str) -> tuple[wire.Message, list[int]]:
        """See `lateen.runtime.node.node.Node.engine_image`."""


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image whose files are here."""

    config: ImageConfig
    root: str
    """Directory with its files; not to be changed."""


@dataclass(slots=True)
class _Failure:
    reason: str
    message: str
    again_at: float
    delay: float


@dataclass(slots=True)
class ImagePuller:
    """Asks for images; one request at a time for the same one, whoever wants it."""

    engine: EngineSide
    _asking: dict[tuple[str, str], asyncio.Task[EngineImage]] = field(default_factory=dict)
    _failures: dict[tuple[str, str], _Failure] = field(default_factory=dict)
    _held: dict[str, int] = field(default_factory=dict)
    """Descriptors that keep directories in the cache, until the node ends."""
    _absent: tuple[float, str] = (0.0, "")

    async def get(self, image: str, policy: str, pod: str) -> EngineImage:
        """The image for a pod. Raises `EngineAbsent`, or `ImageRefused`: ``ErrImagePull`` when it
        was tried now, ``ImagePullBackOff`` while it waits for the next try."""
        until, why = self._absent
        if time.monotonic() < until:
            raise EngineAbsent(why)
        failure = self._failures.get((pod, image))
        if failure is not None and time.monotonic() < failure.again_at:
            raise _waiting(failure)
        key = (image, policy)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(image, policy))
            task.add_done_callback(lambda done: self._finished(key, done))
        try:
            # A pod that goes away takes nothing from the others that wait.
            found = await asyncio.shield(task)
        except EngineAbsent as error:
            self._absent = (time.monotonic() + ABSENT_SECONDS, str(error))
            raise
        except ImageRefused as error:
            self._remember((pod, image), error)
            raise
        self._failures.pop((pod, image), None)
        return found

    def _finished(self, key: tuple[str, str], task: asyncio.Task[EngineImage]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # seen, also when all who waited have gone

    async def _ask(self, image: str, policy: str) -> EngineImage:
        try:
            reply, descriptors = await self.engine.engine_image(image, policy)
        except wire.ChannelClosed:
            raise EngineAbsent(
                "the process that asks the container engine has ended; `lateen logs agent` says why"
            ) from None
        except OSError as error:
            raise ImageRefused("ErrImagePull", f"image {image!r}: {error.strerror}") from error
        if "absent" in reply:
            raise EngineAbsent(wire.text(reply, "absent"))
        refused = wire.mapping(reply, "refused")
        if refused:
            raise ImageRefused(wire.text(refused, "reason"), wire.text(refused, "message"))
        root = wire.text(reply, "root")
        for descriptor in descriptors:
            if root in self._held:
                os.close(descriptor)
            else:
                self._held[root] = descriptor
        return EngineImage(from_message(wire.mapping(reply, "config")), root)

    def _remember(self, key: tuple[str, str], error: ImageRefused) -> None:
        now = time.monotonic()
        last = self._failures.get(key)
        delay = min(last.delay * 2, LONGEST_BACKOFF) if last else FIRST_BACKOFF
        self._failures[key] = _Failure(error.reason, str(error), now + delay, delay)
        for old in [k for k, v in self._failures.items() if v.again_at + LONGEST_BACKOFF < now]:
            del self._failures[old]


def _waiting(failure: _Failure) -> ImageRefused:
    if failure.reason != "ErrImagePull":
        return ImageRefused(failure.reason, failure.message)
    return ImageRefused(
        "ImagePullBackOff", f"{failure.message}; tried again after {failure.delay:.0f} s"
    )
