"""One replica as the first process sees it: the process, and the channel to it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lateen.serve.channel import Channel, Handler
from lateen.serve.preload import Preload, open_preload


@dataclass(slots=True, eq=False)
class Worker:
    """A replica that was started."""

    process: asyncio.subprocess.Process
    channel: Channel
    preload: Preload | None = None
    """What it has read already; None: nothing."""
    loaded: bool = False
    """It has all objects."""
    told_to_listen: bool = False
    """From here on proxies may connect to it, so it is asked about them."""
    ready: bool = False
    """It listens."""
    proxies: Counter[str] = field(default_factory=Counter)
    """Connections of its proxies, by node id, as it told us of each. What a process that dies has
    told is read to the end, so nobody is missed (some 200 messages fit into the socket)."""

    def listen(self) -> None:
        """Let proxies in. It has every change that it was told before by then."""
        self.told_to_listen = True
        self.channel.notify("listen")

    def arrived(self, proxy: str) -> None:
        """A proxy (node id) has connected to it."""
        self.proxies[proxy] += 1

    def departed(self, proxy: str) -> None:
        """A connection of a proxy (node id) to it has ended."""
        self.proxies[proxy] -= 1
        if self.proxies[proxy] <= 0:
            del self.proxies[proxy]


async def start(arguments: Iterable[str], told: Handler, preload: Preload | None = None) -> Worker:
    """Start a process of `lateen.serve.replica`, which reads ``preload`` by itself; what it says
    goes to ``told``. Raises ``OSError``."""
    ours, theirs = socket.socketpair()
    passed = [theirs.fileno()]
    options = ["--descriptor", str(theirs.fileno()), *arguments]
    if preload is not None:
        passed.append(open_preload(preload))
        options += ["--preload", str(passed[1])]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lateen.serve.replica", *options,
            pass_fds=passed, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    finally:
        theirs.close()
        for descriptor in passed[1:]:
            os.close(descriptor)
    worker = Worker(process, Channel(told), preload)
    await worker.channel.open(ours)
    return worker
