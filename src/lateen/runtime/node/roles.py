"""The helpers that the launcher forks on request: the forwarder and the netlink worker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping

from lateen.runtime.node import privileges
from lateen.runtime.node.pod_users import forwarder_user

Role = Callable[[socket.socket, list[int]], None]


def _forwarder(channel: socket.socket, fds: list[int]) -> None:
    """Descriptor 0 is the channel to the host gateway."""
    from lateen.runtime.node.forwarder import Forwarder

    privileges.set_process_name("lateen-forward")
    _ignore_broken_pipes()
    user = forwarder_user() if os.getuid() == 0 else None
    privileges.drop_privileges(uid=user, gid=user)
    Forwarder(channel, socket.socket(fileno=fds[0])).run()


def _netlink(channel: socket.socket, _fds: list[int]) -> None:
    privileges.set_process_name("lateen-netlink")
    _ignore_broken_pipes()
    privileges.drop_privileges((privileges.CAP_NET_ADMIN, privileges.CAP_SYS_ADMIN))
    from lateen.runtime.node.netlink import serve

    serve(channel)


def _ignore_broken_pipes() -> None:
    """The launcher restores the default, for the programs that it starts. With it a write or
    splice(2) to a socket whose other side is gone would end the process, and with the forwarder
    every published port."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


ROLES: Mapping[str, Role] = {"forwarder": _forwarder, "netlink": _netlink}
