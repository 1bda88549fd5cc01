"""Settings that a pod's proxy is started with, as the control plane gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from lateen.runtime.raw import Raw

DRAIN_SECONDS = 1.0
"""How long clients get to learn that the pod goes away before its application is told to stop."""
LISTENER_DRAIN_SECONDS = 45.0
"""How long requests may go on that are under way when a listener or a filter chain is replaced, as
in Istio. Envoy cuts off what is left then."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """One proxy's settings (``ProxyConfig``), with the defaults of a single machine."""

    concurrency: int = 1
    drain_seconds: float = LISTENER_DRAIN_SECONDS
    termination_drain_seconds: float = DRAIN_SECONDS
    hold_application: bool = True
    """Containers wait for the proxy: without it a program's first requests fail for no reason
    that its user can see."""
    environment: Mapping[str, str] = field(default_factory=dict)
    trust_domain: str = "cluster.local"


def proxy_settings(data: Raw, concurrency: int) -> ProxySettings:
    """Settings from ``GET /lateen/v1/proxy-settings``; ``concurrency`` is the node's own."""
    wanted = data.get("concurrency")
    threads = concurrency if wanted is None else int(wanted)
    drain, termination = data.get("drainSeconds"), data.get("terminationDrainSeconds")
    return ProxySettings(
        concurrency=threads or os.cpu_count() or 1,
        drain_seconds=LISTENER_DRAIN_SECONDS if drain is None else float(drain),
        termination_drain_seconds=DRAIN_SECONDS if termination is None else float(termination),
        hold_application=data.get("holdApplication") is not False,
        environment=data.get("environment") or {},
        trust_domain=str(data.get("trustDomain") or "cluster.local"),
    )
