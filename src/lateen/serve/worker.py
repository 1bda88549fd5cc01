"""One replica as the first process sees it: the process, and the channel to it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from lateen.serve.channel import Channel, Handler


@dataclass(slots=True, eq=False)
class Worker:
    """A replica that was started."""

    process: asyncio.subprocess.Process
    channel: Channel
    loaded: bool = False
    """It has all objects."""
    told_to_listen: bool = False
    """From here on proxies may connect to it, so it is asked about them."""
    ready: bool = False
    """It listens."""
    proxies: tuple[str, ...] = ()
    """Node ids of its proxies when it was last asked."""

    def listen(self) -> None:
        """Let proxies in. It has every change that it was told before by then."""
        self.told_to_listen = True
        self.channel.notify("listen")

    async def ask_proxies(self, timeout: float = 10.0) -> None:
        """Learn which proxies it has. Raises what `Channel.call` raises."""
        self.proxies = tuple(await self.channel.call("proxies", None, timeout))


async def start(arguments: Iterable[str], told: Handler) -> Worker:
    """Start a process of `lateen.serve.replica`; what it says goes to ``told``."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lateen.serve.replica",
            "--descriptor", str(theirs.fileno()), *arguments,
            pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    worker = Worker(process, Channel(told))
    await worker.channel.open(ours)
    return worker
