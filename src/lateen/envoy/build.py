"""From the intermediate representation to named bytes.

A resource is serialised once for as long as its IR object lives: translation returns the same
object for a part that did not change, so a push costs only what changed. Serialisation is
deterministic, and the version is the hash of the bytes alone.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lateen.api.resource import ObjectKey
from lateen.envoy import clusters, endpoints, listeners, metadata, routes, tcp
from lateen.ir.cluster import Cluster, LoadAssignment
from lateen.ir.listener import FilterChain, HttpConnectionManager, Listener
from lateen.ir.origin import Origin
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.ir.route import RouteConfiguration, VirtualHost
from lateen.model import discovery
from lateen.model.discovery import Content, DiscoveryResource, ResourceSet, version_of

Part = Cluster | LoadAssignment | Listener | RouteConfiguration
"""What becomes one xDS resource."""


class _Memo:
    """Results by identity of their input, dropped when the input is."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str], tuple[weakref.ref[Any], DiscoveryResource]] = {}

    def get(self, part: Part | VirtualHost, within: str = "") -> DiscoveryResource:
        key = (id(part), within)
        entry = self._entries.get(key)
        if entry is not None and entry[0]() is part:
            return entry[1]
        made = _make_host(within, part) if isinstance(part, VirtualHost) else _make(part)
        entries = self._entries

        def forget(reference: weakref.ref[Any]) -> None:
            held = entries.get(key)
            if held is not None and held[0] is reference:
                del entries[key]

        entries[key] = (weakref.ref(part, forget), made)
        return made

    def __len__(self) -> int:
        return len(self._entries)


_memo = _Memo()


def resource(part: Part) -> DiscoveryResource:
    """The resource of one IR object; the same object gives the very same resource again."""
    return _memo.get(part)


def resources(config: ProxyConfiguration) -> ResourceSet:
    """All resources of a scope by type URL and name. Of two with one name the first counts."""
    return {
        discovery.CLUSTER: _named(config.clusters),
        discovery.ENDPOINT: _named(config.load_assignments),
        discovery.LISTENER: _named(config.listeners),
        discovery.ROUTE: _named(config.routes),
        discovery.EXTENSION: extensions(),
        discovery.VIRTUAL_HOST: {host.name: host for host in virtual_hosts(config.routes)},
    }


@functools.cache
def extensions() -> Mapping[str, DiscoveryResource]:
    """What listeners of any scope may ask for by name."""
    return {
        name: make(discovery.EXTENSION, name, body, ())
        for name, body in tcp.shared_filters().items()
    }


def virtual_hosts(configurations: Iterable[RouteConfiguration]) -> Iterator[DiscoveryResource]:
    """The virtual hosts that are resources of their own, of all ``configurations``."""
    for part in configurations:
        if part.discover_hosts:
            yield from (discovered_host(part.name, host) for host in part.virtual_hosts)


def discovered_host(route: str, host: VirtualHost) -> DiscoveryResource:
    """A virtual host that is a resource of its own, of the route configuration ``route``."""
    return _memo.get(host, route)


def whole_route(
    configuration: DiscoveryResource, hosts: Iterable[DiscoveryResource]
) -> DiscoveryResource:
    """A route configuration with its virtual hosts in it, for those that cannot ask for them."""
    found = tuple(hosts)
    body = routes.with_hosts(configuration.body, (host.body for host in found))
    keys = dict.fromkeys(key for item in (configuration, *found) for key in item.origins)
    return make(configuration.type_url, configuration.name, body, tuple(keys))


def memoised() -> int:
    """How many resources are kept (for metrics and tests)."""
    return len(_memo)


def make(
    type_url: str, name: str, content: Content, keys: tuple[ObjectKey, ...]
) -> DiscoveryResource:
    """A resource of serialised bytes (also for secrets and extensions made elsewhere).

    Equal ones are the same object, so scopes that differ in nothing they are sent share it.
    """
    version = version_of(content)
    key = (type_url, name, version, keys)
    known = _equal.get(key)
    if known is None:
        known = _equal[key] = DiscoveryResource(type_url, name, version, content, keys)
    return known


_equal: weakref.WeakValueDictionary[
    tuple[str, str, str, tuple[ObjectKey, ...]], DiscoveryResource
] = weakref.WeakValueDictionary()


def _named(parts: Iterable[Part]) -> dict[str, DiscoveryResource]:
    found: dict[str, DiscoveryResource] = {}
    for part in parts:
        made = _memo.get(part)
        found.setdefault(made.name, made)
    return found


def _make(part: Part) -> DiscoveryResource:
    match part:
        case Cluster():
            body = clusters.cluster(part)
            return make(discovery.CLUSTER, part.name, body, metadata.object_keys(part.origins))
        case LoadAssignment():
            body = endpoints.load_assignment(part)
            return make(discovery.ENDPOINT, part.cluster, body, ())
        case Listener():
            pieces = listeners.listener_pieces(part)
            keys = metadata.object_keys(*_listener_origins(part))
            return make(discovery.LISTENER, part.name, pieces, keys)
        case RouteConfiguration(discover_hosts=True):
            body = routes.discovered_bytes(part)
            return make(discovery.ROUTE, part.name, body, metadata.object_keys(part.origins))
        case RouteConfiguration():
            body = routes.route_configuration_bytes(part)
            return make(
                discovery.ROUTE, part.name, body, metadata.object_keys(*_route_origins(part))
            )


def _make_host(configuration: str, part: VirtualHost) -> DiscoveryResource:
    name = routes.host_name(configuration, part.name)
    body = routes.discovered_host_bytes(configuration, part)
    return make(discovery.VIRTUAL_HOST, name, body, metadata.object_keys(*_host_origins(part)))


def _listener_origins(part: Listener) -> Iterator[tuple[Origin, ...]]:
    yield part.origins
    for chain in part.filter_chains:
        yield from _chain_origins(chain)
    if part.default_filter_chain is not None:
        yield from _chain_origins(part.default_filter_chain)


def _chain_origins(chain: FilterChain) -> Iterator[tuple[Origin, ...]]:
    yield chain.origins
    if isinstance(chain.filter, HttpConnectionManager) and chain.filter.routes is not None:
        yield from _route_origins(chain.filter.routes)


def _route_origins(part: RouteConfiguration) -> Iterator[tuple[Origin, ...]]:
    yield part.origins
    for host in part.virtual_hosts:
        yield from _host_origins(host)


def _host_origins(part: VirtualHost) -> Iterator[tuple[Origin, ...]]:
    yield part.origins
    for route in part.routes:
        yield route.origins
