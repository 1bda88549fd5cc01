"""The names of a cluster and what they mean, kept up to date object by object.

Follows the Kubernetes DNS specification 1.1.0 for Services and Pods, and Istio's rules for
ServiceEntry hosts. Nothing is rendered ahead: an object changes a few dictionaries, and a name is
taken apart when it is asked for, so that a change costs the same in a mesh of ten services and of
ten thousand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from lateen.agent.dns_objects import (
    Endpoint,
    EntryInfo,
    PodInfo,
    Port,
    Raw,
    ServiceInfo,
    SliceInfo,
    entry_info,
    pod_info,
    service_info,
    slice_info,
)

SPECIFICATION = "1.1.0"
"""Version of the Kubernetes DNS specification that is served as ``dns-version``."""
_Key = tuple[str, str]
_K = TypeVar("_K")
_V = TypeVar("_V")


class Target(NamedTuple):
    """What an SRV record points to."""

    port: int
    name: str
    addresses: tuple[str, ...]


class Answer(NamedTuple):
    """What is known of a name that exists. All empty: the name exists and has no records."""

    addresses: tuple[str, ...] = ()
    alias: str = ""
    targets: tuple[Target, ...] = ()
    pointers: tuple[str, ...] = ()
    text: str = ""
    mesh: bool = False
    """A host outside the cluster's domain (ServiceEntry): other record types are asked upstream."""


EXISTS = Answer()


class NameTable:
    """All names of one cluster."""

    def __init__(self, domain: str = "cluster.local") -> None:
        self.domain = domain.lower().strip(".")
        self._services: dict[_Key, ServiceInfo] = {}
        self._pods: dict[_Key, PodInfo] = {}
        self._slices: dict[_Key, SliceInfo] = {}
        self._entries: dict[_Key, EntryInfo] = {}
        self._namespaces: dict[str, int] = {}
        # Derived from the above, each kept by the one method that changes its source.
        self._headless: dict[str, set[str]] = {}
        self._members: dict[_Key, set[str]] = {}
        self._pods_in: dict[str, set[str]] = {}
        self._slices_of: dict[_Key, set[str]] = {}
        self._pods_at: dict[str, set[_Key]] = {}
        self._services_at: dict[str, set[_Key]] = {}
        self._hosts: dict[str, set[_Key]] = {}
        self._hosts_at: dict[str, set[tuple[str, _Key]]] = {}

    # Changes

    def apply(self, verb: str, raw: Raw) -> None:
        """Take in a change: ``ADDED``, ``MODIFIED`` or ``DELETED`` of a raw object.

        Kinds other than Service, Pod, ServiceEntry and EndpointSlice are ignored. Raises
        ``KeyError``, ``TypeError`` or ``ValueError`` for an object that breaks its own schema; the
        table is then as if the object did not exist.
        """
        kind, metadata = raw.get("kind"), raw["metadata"]
        key = (str(metadata.get("namespace") or "default"), str(metadata["name"]))
        gone = verb == "DELETED"
        if kind == "Service":
            self._set_service(key, None)
            self._set_service(key, None if gone else service_info(raw))
        elif kind == "Pod":
            self._set_pod(key, None)
            self._set_pod(key, None if gone else pod_info(raw))
        elif kind == "EndpointSlice":
            self._set_slice(key, None)
            self._set_slice(key, None if gone else slice_info(raw))
        elif kind == "ServiceEntry":
            self._set_entry(key, None)
            self._set_entry(key, None if gone else entry_info(raw))

    def _set_service(self, key: _Key, new: ServiceInfo | None) -> None:
        namespace, name = key
        old = self._services.pop(key, None)
        if old is not None:
            self._count_namespace(namespace, -1)
            for address in old.addresses:
                _discard(self._services_at, address, key)
            _discard(self._headless, namespace, name)
            self._members.pop(key, None)
        if new is None:
            return
        self._services[key] = new
        self._count_namespace(namespace, 1)
        for address in new.addresses:
            self._services_at.setdefault(address, set()).add(key)
        if new.headless and new.selector:
            self._headless.setdefault(namespace, set()).add(name)
            self._members[key] = {
                pod
                for pod in self._pods_in.get(namespace, ())
                if _selects(new.selector, self._pods[namespace, pod].labels)
            }

    def _set_pod(self, key: _Key, new: PodInfo | None) -> None:
        namespace, name = key
        old = self._pods.pop(key, None)
        if old is not None:
            self._count_namespace(namespace, -1)
            _discard(self._pods_in, namespace, name)
            for address in old.addresses:
                _discard(self._pods_at, address, key)
        if new is not None:
            self._pods[key] = new
            self._count_namespace(namespace, 1)
            self._pods_in.setdefault(namespace, set()).add(name)
            for address in new.addresses:
                self._pods_at.setdefault(address, set()).add(key)
        for service in self._headless.get(namespace, ()):
            members = self._members[namespace, service]
            if new and _selects(self._services[namespace, service].selector, new.labels):
                members.add(name)
            else:
                members.discard(name)

    def _set_slice(self, key: _Key, new: SliceInfo | None) -> None:
        namespace, name = key
        old = self._slices.pop(key, None)
        if old is not None:
            _discard(self._slices_of, (namespace, old.service), name)
        if new is not None:
            self._slices[key] = new
            self._slices_of.setdefault((namespace, new.service), set()).add(name)

    def _set_entry(self, key: _Key, new: EntryInfo | None) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            for host, addresses in old.hosts.items():
                _discard(self._hosts, host, key)
                for address in addresses:
                    _discard(self._hosts_at, address, (host, key))
        if new is not None:
            self._entries[key] = new
            for host, addresses in new.hosts.items():
                self._hosts.setdefault(host, set()).add(key)
                for address in addresses:
                    self._hosts_at.setdefault(address, set()).add((host, key))

    def _count_namespace(self, namespace: str, step: int) -> None:
        count = self._namespaces.get(namespace, 0) + step
        if count > 0:
            self._namespaces[namespace] = count
        else:
            self._namespaces.pop(namespace, None)

    # Questions

    def namespace_at(self, address: str) -> str:
        """Namespace of the pod with this address, empty when there is none."""
        keys = self._pods_at.get(address)
        return min(keys)[0] if keys else ""

    def in_cluster(self, name: str) -> bool:
        """Whether a name belongs to the cluster's domain, where this table has the last word."""
        return name == self.domain or name.endswith("." + self.domain)

    def lookup(self, name: str, namespace: str = "", *, mesh_hosts: bool = True) -> Answer | None:
        """What is known of a name (lower case, no final dot), None when it does not exist here.

        ``namespace`` is the asking pod's, for ServiceEntries that are not exported to all.
        Without ``mesh_hosts`` ServiceEntry hosts are unknown.
        """
        if self.in_cluster(name):
            found = self._cluster_name(name[: -len(self.domain)].rstrip(".").split("."))
            if found is not None:
                return found
        elif name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._pointers(name)
        return self._mesh_host(name, namespace) if mesh_hosts else None

    def _cluster_name(self, labels: list[str]) -> Answer | None:
        match labels:
            case [""] | ["svc"] | ["pod"]:
                return EXISTS
            case ["dns-version"]:
                return Answer(text=SPECIFICATION)
            case [namespace, "svc" | "pod"]:
                return EXISTS if namespace in self._namespaces else None
            case [service, namespace, "svc"]:
                return self._service_name(service, namespace)
            case [host, service, namespace, "svc"] if host.startswith("_"):
                info = self._services.get((namespace, service))
                known = info and any("_" + port.protocol == host for port in info.ports)
                return EXISTS if known else None
            case [host, service, namespace, "svc"]:
                return self._endpoint_name(host, service, namespace)
            case [port, protocol, service, namespace, "svc"]:
                return self._port_name(port, protocol, service, namespace)
            case [address, namespace, "pod"]:
                return self._pod_name(address, namespace)
        return None

    def _service_name(self, service: str, namespace: str) -> Answer | None:
        info = self._services.get((namespace, service))
        if info is None:
            return None
        if info.alias:
            return Answer(alias=info.alias)
        targets = tuple(t for port in info.ports for t in self._targets(service, namespace, port))
        if not info.headless:
            return Answer(addresses=info.addresses, targets=targets)
        addresses = tuple(
            dict.fromkeys(a for e in self._endpoints(service, namespace) for a in e.addresses)
        )
        return Answer(addresses=addresses, targets=targets) if addresses else None

    def _endpoint_name(self, host: str, service: str, namespace: str) -> Answer | None:
        addresses = tuple(
            address
            for endpoint in self._endpoints(service, namespace)
            for address in endpoint.addresses
            if host == (endpoint.hostname or dashed(address))
        )
        return Answer(addresses=addresses) if addresses else None

    def _port_name(
        self, port_label: str, protocol: str, service: str, namespace: str
    ) -> Answer | None:
        info = self._services.get((namespace, service))
        for port in info.ports if info else ():
            if "_" + port.name == port_label and "_" + port.protocol == protocol:
                targets = tuple(self._targets(service, namespace, port))
                return Answer(targets=targets) if targets else None
        return None

    def _pod_name(self, label: str, namespace: str) -> Answer | None:
        address = undashed(label)
        known = any(key[0] == namespace for key in self._pods_at.get(address, ()))
        return Answer(addresses=(address,)) if known else None

    def _targets(self, service: str, namespace: str, port: Port) -> Iterator[Target]:
        info = self._services[namespace, service]
        base = f"{service}.{namespace}.svc.{self.domain}"
        if not info.headless:
            if info.addresses:
                yield Target(port.number, base, info.addresses)
            return
        from_slices = (namespace, service) in self._slices_of
        for endpoint in self._endpoints(service, namespace):
            if from_slices:
                number = endpoint.ports.get(port.name)
            elif isinstance(port.target, int):
                number = port.target
            else:
                number = endpoint.ports.get(port.target)
            if number is None:
                continue
            for address in endpoint.addresses:
                host = endpoint.hostname or dashed(address)
                yield Target(number, f"{host}.{base}", (address,))

    def _endpoints(self, service: str, namespace: str) -> Iterator[Endpoint]:
        """Endpoints of a headless service that are to be published, in a stable order."""
        key = (namespace, service)
        info = self._services.get(key)
        if info is None or not info.headless:
            return
        slices = self._slices_of.get(key)
        if slices:
            for name in sorted(slices):
                for endpoint in self._slices[namespace, name].endpoints:
                    if endpoint.ready or info.publish_not_ready:
                        yield endpoint
            return
        for name in sorted(self._members.get(key, ())):
            pod = self._pods[namespace, name]
            if pod.ready or info.publish_not_ready:
                hostname = pod.hostname if pod.subdomain == service else ""
                yield Endpoint(pod.addresses, hostname, pod.ready, pod.ports)

    def _mesh_host(self, name: str, namespace: str) -> Answer | None:
        candidate, rest = name, name
        while candidate:
            keys = self._hosts.get(candidate)
            if keys:
                visible = sorted(
                    (key for key in keys if _visible(self._entries[key], key[0], namespace)),
                    key=lambda key: (key[0] != namespace, key),
                )
                if visible:
                    hosts = self._entries[visible[0]].hosts
                    return Answer(addresses=hosts[candidate], mesh=True)
            _, _, rest = rest.partition(".")
            candidate = f"*.{rest}" if rest else ""
        return None

    def _pointers(self, name: str) -> Answer | None:
        address = reverse_address(name)
        names = [
            f"{s}.{n}.svc.{self.domain}" for n, s in sorted(self._services_at.get(address, ()))
        ]
        for namespace, pod in sorted(self._pods_at.get(address, ())):
            found = [
                f"{endpoint.hostname or dashed(address)}.{service}.{namespace}.svc.{self.domain}"
                for service in sorted(self._headless.get(namespace, ()))
                if pod in self._members[namespace, service]
                for endpoint in self._endpoints(service, namespace)
                if address in endpoint.addresses
            ]
            names += found or [f"{dashed(address)}.{namespace}.pod.{self.domain}"]
        hosts = sorted({host for host, _ in self._hosts_at.get(address, ())})
        names += [host for host in hosts if not host.startswith("*")]
        return Answer(pointers=tuple(names)) if names else None


def dashed(address: str) -> str:
    """An address as a DNS label: ``10-244-0-7``."""
    return address.replace(".", "-").replace(":", "-")


def undashed(label: str) -> str:
    """The address that `dashed` wrote, in canonical form; empty when it is none."""
    for separator in (".", ":"):
        try:
            return str(ipaddress.ip_address(label.replace("-", separator)))
        except ValueError:
            continue
    return ""


def reverse_address(name: str) -> str:
    """The address of a name below in-addr.arpa or ip6.arpa; empty when it is none (RFC 1035)."""
    digits = name.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa").split(".")[::-1]
    try:
        if name.endswith(".ip6.arpa"):
            if len(digits) != 32 or any(len(digit) != 1 for digit in digits):
                return ""
            return str(ipaddress.IPv6Address(int("".join(digits), 16)))
        return str(ipaddress.IPv4Address(".".join(digits)))
    except ValueError:
        return ""


def _visible(entry: EntryInfo, own: str, asking: str) -> bool:
    for target in entry.export_to:
        if target == "*" or (asking and (target == asking or (target == "." and own == asking))):
            return True
    return False


def _selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _discard(index: dict[_K, set[_V]], key: _K, value: _V) -> None:
    """Take a value out of an index of sets; empty sets do not stay."""
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
