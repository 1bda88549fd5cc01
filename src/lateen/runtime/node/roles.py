"""The helpers that the launcher forks on request: the forwarder and the netlink worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

from lateen.runtime.node import privileges
from lateen.runtime.node.spec import APP_USER

Role = Callable[[socket.socket, list[int]], None]


def _forwarder(channel: socket.socket, fds: list[int]) -> None:
    """Descriptor 0 is the channel to the host gateway."""
    from lateen.runtime.node.forwarder import Forwarder

    privileges.set_process_name("lateen-forward")
    user = APP_USER if os.getuid() == 0 else None
    privileges.drop_privileges(uid=user, gid=user)
    Forwarder(channel, socket.socket(fileno=fds[0])).run()


def _netlink(channel: socket.socket, _fds: list[int]) -> None:
    privileges.set_process_name("lateen-netlink")
    privileges.drop_privileges((privileges.CAP_NET_ADMIN, privileges.CAP_SYS_ADMIN))
    from lateen.runtime.node.netlink import serve

    serve(channel)


ROLES: Mapping[str, Role] = {"forwarder": _forwarder, "netlink": _netlink}
