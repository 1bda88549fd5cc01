"""What `get` shows of each kind beside name and age (as kubectl does for the same kinds)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading and how a cell is read from an object."""

    title: str
    value: Callable[[Raw], str]


def columns_of(kind: str) -> tuple[Column, ...]:
    """Columns of a kind; none for kinds that have nothing more to say."""
    return _COLUMNS.get(kind, ())


def pod_ready(raw: Raw) -> str:
    """``2/2``: ready containers of all."""
    statuses = (raw.get("status") or {}).get("containerStatuses") or []
    total = len(statuses) or len((raw.get("spec") or {}).get("containers") or [])
    return f"{sum(1 for s in statuses if s.get('ready'))}/{total}"


def pod_phase(raw: Raw) -> str:
    """The phase, or the reason a container waits or ended, or ``Terminating``."""
    if raw["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = raw.get("status") or {}
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        for kind in ("waiting", "terminated"):
            reason = (state.get(kind) or {}).get("reason")
            if reason and reason != "Completed":
                return str(reason)
    return str(status.get("phase") or "Pending")


def pod_restarts(raw: Raw) -> str:
    """Restarts of all containers together."""
    statuses = (raw.get("status") or {}).get("containerStatuses") or []
    return str(sum(int(s.get("restartCount", 0)) for s in statuses))


def _field(*path: str, default: str = "") -> Callable[[Raw], str]:
    def value(raw: Raw) -> str:
        found: Any = raw
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return _text(found) or default

    return value


def _text(value: object) -> str:
    if isinstance(value, list):
        shown = ",".join(str(item) for item in value[:3])
        return f"{shown},+{len(value) - 3} more" if len(value) > 3 else shown
    return "" if value is None else str(value)


def _ports(raw: Raw) -> str:
    ports = (raw.get("spec") or {}).get("ports") or []
    return ",".join(
        f"{p.get('port')}{':' + str(p['nodePort']) if p.get('nodePort') else ''}"
        f"/{p.get('protocol', 'TCP')}"
        for p in ports
    )


def _replicas(raw: Raw) -> str:
    wanted = (raw.get("spec") or {}).get("replicas", 1)
    return f"{(raw.get('status') or {}).get('readyReplicas', 0)}/{wanted}"


def _external(raw: Raw) -> str:
    ingress = ((raw.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    spec = raw.get("spec") or {}
    return _text([i.get("ip") or i.get("hostname") for i in ingress] or spec.get("externalName"))


def _data_size(raw: Raw) -> str:
    return str(len(raw.get("data") or {}))


_REPLICAS = (Column("READY", _replicas),)

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "Pod": (
        Column("READY", pod_ready),
        Column("STATUS", pod_phase),
        Column("RESTARTS", pod_restarts),
        Column("IP", _field("status", "podIP", default="<none>")),
    ),
    "Service": (
        Column("TYPE", _field("spec", "type", default="ClusterIP")),
        Column("CLUSTER-IP", _field("spec", "clusterIP", default="<none>")),
        Column("EXTERNAL", _external),
        Column("PORTS", _ports),
    ),
    "Deployment": _REPLICAS,
    "StatefulSet": _REPLICAS,
    "ConfigMap": (Column("DATA", _data_size),),
    "Secret": (Column("TYPE", _field("type", default="Opaque")), Column("DATA", _data_size)),
    "Namespace": (
        Column("INJECTION", _field("metadata", "labels", "istio-injection", default="-")),
    ),
    "VirtualService": (
        Column("GATEWAYS", _field("spec", "gateways")),
        Column("HOSTS", _field("spec", "hosts")),
    ),
    "DestinationRule": (Column("HOST", _field("spec", "host")),),
    "ServiceEntry": (
        Column("HOSTS", _field("spec", "hosts")),
        Column("LOCATION", _field("spec", "location")),
        Column("RESOLUTION", _field("spec", "resolution")),
    ),
    "PeerAuthentication": (Column("MODE", _field("spec", "mtls", "mode")),),
    "AuthorizationPolicy": (Column("ACTION", _field("spec", "action", default="ALLOW")),),
}
