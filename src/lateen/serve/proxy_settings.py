"""Settings that the agent starts a pod's proxy with, as plain JSON: the agent reads no YAML."""

from __future__ import annotations

from lateen.api.base import duration_seconds
from lateen.api.core.pod import Pod
from lateen.model.proxy_settings import environment_of, proxy_config_of
from lateen.model.snapshot import Snapshot


def settings_for(snapshot: Snapshot, pod: Pod) -> dict[str, object]:
    """What the settings of ``pod``'s proxy say; ``null`` for what nobody set.

    ``concurrency`` is the number of worker threads (0: all cores), ``drainSeconds`` how long a
    listener that goes away is drained, ``terminationDrainSeconds`` how long the proxy is before it
    ends, ``holdApplication`` whether containers wait for the proxy, ``environment`` further
    variables of the proxy.
    """
    settings = proxy_config_of(snapshot, pod)
    return {
        "concurrency": settings.concurrency,
        "drainSeconds": _seconds(settings.drain_duration),
        "terminationDrainSeconds": _seconds(settings.termination_drain_duration),
        "holdApplication": settings.hold_application_until_proxy_starts,
        "environment": environment_of(settings),
        "trustDomain": snapshot.trust_domain,
    }


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else duration_seconds(duration)
