"""Which port of the machine each port of a published Service gets: pure functions.

In Kubernetes each such Service has an address of its own; here they share one, so that two Services
with one port need two ports of the machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lateen.runtime.raw import Raw, full_name, labels_of, spec_of

ROOT_NAMESPACE = "istio-system"
INGRESS_LABELS = {"istio": "ingressgateway"}
UNPUBLISHED_PORTS = frozenset({15021, 15012, 15017})
HOST_PORTS = {80: 8080, 443: 8443}
"""Where privileged service ports are published, since an ordinary user cannot bind them."""
CANDIDATES = 32
"""How many ports are tried for a service whose own one is taken, unless the user chose it."""
NOT_PUBLISHED = "none"

Key = tuple[str, int]
"""A service (``NAMESPACE/NAME``) and one of its ports."""


@dataclass(frozen=True, slots=True)
class Request:
    """One service port that shall be published."""

    key: Key
    cluster_ip: str
    port: int
    """Port of the machine to begin with."""
    asked: bool
    """Whether the user asked for exactly this port of the machine."""

    def candidates(self, reserved: Iterable[int]) -> list[int]:
        """Ports of the machine in the order in which they are tried: the user's own choice alone,
        else this one and those that follow it, and then unprivileged ones."""
        if self.asked:
            return [self.port]
        kept = set(reserved)
        high = 10_000 + self.port if self.port < 1024 else self.port
        found = [self.port, *range(high + (high == self.port), high + CANDIDATES)]
        return [port for port in found if 0 < port < 65_536 and port not in kept]


def parse_publish(options: Iterable[str]) -> dict[str, list[int]]:
    """``[NAMESPACE/NAME:]PORT:HOSTPORT`` options; ``none`` for HOSTPORT does not publish.

    The key of the result is what stands before HOSTPORT, ``NAMESPACE/NAME`` alone for all ports of
    a service; an empty list means that it is not published.

    >>> parse_publish(["80:9090", "shop/web:80:9091", "shop/admin:none"])
    {'80': [9090], 'shop/web:80': [9091], 'shop/admin': []}

    Raises `ValueError`.
    """
    found: dict[str, list[int]] = {}
    for option in options:
        key, colon, host = option.rpartition(":")
        number = host.isascii() and host.isdigit() and 0 < int(host[:6]) < 65_536
        if not colon or not _is_key(key, alone=host == NOT_PUBLISHED):
            raise ValueError(f"{option!r} is not [NAMESPACE/NAME:]SERVICEPORT:HOSTPORT")
        if host == NOT_PUBLISHED:
            found[key] = []
        elif number:
            found.setdefault(key, []).append(int(host))
        else:
            raise ValueError(f"{option!r} is not [NAMESPACE/NAME:]SERVICEPORT:HOSTPORT")
    return found


def _is_key(text: str, *, alone: bool) -> bool:
    """Whether ``text`` is a port, a service with a port, or (``alone``) a service."""
    service, colon, port = text.rpartition(":")
    if not colon:
        service, port = (text, "") if "/" in text else ("", text)
    if service and (service.count("/") != 1 or not all(service.split("/"))):
        return False
    if not port:
        return bool(service) and alone
    return port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536


def requests(
    services: Iterable[Raw],
    wanted: Mapping[str, Sequence[int]],
    fronts: Collection[str] = frozenset(),
) -> list[Request]:
    """What shall be published, in the order in which ports are given away.

    That is every port of LoadBalancer services, and of services of another type what the user
    chose: by the name of the service, or by its port for ``fronts``, the services in front of
    gateways (``NAMESPACE/NAME``).

    Ports that the user chose for one service come first. Then, of several services with one port,
    Istio's ingress gateway has it before others, and an older service before a newer one.
    """
    found: list[Request] = []
    used: dict[int, int] = {}
    ordered = sorted(services, key=rank)
    for service in ordered:
        spec, name = spec_of(service), full_name(service)
        address = str(spec.get("clusterIP") or "None")
        if address == "None" or wanted.get(name) == []:
            continue
        balanced = spec.get("type") == "LoadBalancer"
        for entry in spec.get("ports") or []:
            port = int(entry["port"])
            if port in UNPUBLISHED_PORTS or entry.get("protocol", "TCP") != "TCP":
                continue
            own, general = wanted.get(f"{name}:{port}"), wanted.get(str(port))
            if own == [] or (own is None and general == []):
                continue
            if not (balanced or own or (general and name in fronts)):
                continue
            host, asked = HOST_PORTS.get(port, port), False
            if own:
                host, asked = own[0], True
            elif general:
                turn = used[port] = used.get(port, -1) + 1
                host, asked = general[min(turn, len(general) - 1)], turn < len(general)
            found.append(Request((name, port), address, host, asked))
    return sorted(found, key=lambda request: not request.asked)


def without_service(
    wanted: Mapping[str, Sequence[int]], found: Iterable[Request]
) -> Iterable[tuple[int, str]]:
    """Choices of the user that no service has a port for: the port, and what to say."""
    keys = [request.key for request in found]
    known = {str(port) for _, port in keys} | {f"{name}:{port}" for name, port in keys}
    for key, hosts in wanted.items():
        if hosts and key not in known:
            service, _, port = key.rpartition(":")
            holder = f"service {service} has no such TCP port, or no cluster IP"
            if not service:
                holder = "no LoadBalancer service and no service of a gateway has this port"
            yield (
                int(port),
                f"--publish {key}:{hosts[0]} publishes nothing yet: {holder}"
                + ("" if service else "; name another service as NAMESPACE/NAME:PORT:HOSTPORT"),
            )


def rank(service: Raw) -> tuple[bool, str, str]:
    """Sorts services with Istio's ingress gateway first, then by age."""
    selector = spec_of(service).get("selector") or {}
    gateway = any(
        INGRESS_LABELS.items() <= labels.items() for labels in (selector, labels_of(service))
    )
    return (
        not gateway,
        str(service["metadata"].get("creationTimestamp") or ""),
        full_name(service),
    )
