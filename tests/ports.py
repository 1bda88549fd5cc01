"""Ports of the host's loopback for servers that are started a moment later."""

from __future__ import annotations

import errno
import itertools
import random
import socket

_FIRST, _LAST = 18_000, 32_000
"""Below the ports that Linux gives to outgoing connections (``ip_local_port_range``): one of those
may be taken between the question for a free port and its use."""
_ports = itertools.count(random.randrange(_FIRST, _LAST))


def free_port() -> int:
    """A TCP port that nobody listens on, another one each time."""
    for number in _ports:
        port = _FIRST + number % (_LAST - _FIRST)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        return port
    raise AssertionError("counting has no end")
