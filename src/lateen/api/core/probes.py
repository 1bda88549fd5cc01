"""Probes and lifecycle hooks of containers."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import Message
from lateen.api.core.selectors import IntOrString


class ExecAction(Message, frozen=True, kw_only=True):
    """Run a command; exit code 0 is success."""

    command: list[str] = []


class HTTPHeader(Message, frozen=True, kw_only=True):
    """A header that a probe sends."""

    name: str
    value: str = ""


class HTTPGetAction(Message, frozen=True, kw_only=True):
    """GET; 200-399 is success. ``port`` is a number or a container port's name."""

    path: str = ""
    port: IntOrString
    host: str = ""
    scheme: Literal["HTTP", "HTTPS", ""] = ""
    http_headers: list[HTTPHeader] = []


class TCPSocketAction(Message, frozen=True, kw_only=True):
    """Open a connection."""

    port: IntOrString
    host: str = ""


class GRPCAction(Message, frozen=True, kw_only=True):
    """The gRPC health protocol."""

    port: int
    service: str | None = None


class SleepAction(Message, frozen=True, kw_only=True):
    """Wait so many seconds."""

    seconds: int


class Probe(Message, frozen=True, kw_only=True):
    """A probe with its timing in seconds; exactly one action."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Message, frozen=True, kw_only=True):
    """What a lifecycle hook does; exactly one action."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Message, frozen=True, kw_only=True):
    """Hooks around a container's life."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None
