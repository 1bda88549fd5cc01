"""Virtual hosts as resources of their own (Envoy VHDS), beside the route configurations.

A change of one virtual host is sent alone to proxies that speak delta xDS; those that speak state
of the world get whole route configurations, put together when there are such proxies.

Envoy 1.40 asks for virtual hosts once on a stream and without names, and takes only those whose
route configuration it has by then; of others it remembers just the version. So a proxy is sent
those of the route configurations that it was sent before.
"""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary, ref

from lateen.model.discovery import DiscoveryResource
from lateen.serve.views import View, intern_names

_grouped: WeakKeyDictionary[View, dict[str, frozenset[str]]] = WeakKeyDictionary()
_settled: WeakKeyDictionary[View, ref[View]] = WeakKeyDictionary()
"""The view of all route configurations that the virtual hosts are for."""
_whole: WeakKeyDictionary[View, WeakKeyDictionary[View, View]] = WeakKeyDictionary()


def names_within(hosts: View, routes: Iterable[str]) -> frozenset[str]:
    """Names of the virtual hosts in ``hosts`` that belong to the route configurations."""
    found = _groups(hosts)
    return frozenset().union(*(found.get(name, ()) for name in routes))


def of_routes(hosts: View, routes: View, held: View) -> View:
    """What of ``hosts`` is for a proxy that has ``routes``.

    Virtual hosts that it holds of route configurations which are wanted no longer stay, as
    connections on a draining listener go on using them.
    """
    settled = _settled.get(hosts)
    if settled is not None and settled() is routes:
        return hosts
    found = _groups(hosts)
    if routes.resources.keys() == found.keys():  # nearly always, and for all of a scope at once
        _settled[hosts] = ref(routes)
        return hosts
    kept = [name for name in _groups(held) if name not in found and name in routes]
    if not kept and all(name in routes for name in found):
        return hosts
    wanted = intern_names(names_within(hosts, (name for name in found if name in routes)))
    old = names_within(held, kept)
    names = wanted if not old else intern_names(wanted | old)
    return hosts.restricted(names, tuple(held.resources[name] for name in sorted(old)))


def whole_routes(routes: View, hosts: View) -> View:
    """``routes`` with the virtual hosts of each in it."""
    found = _groups(hosts)
    if not found:
        return routes
    known = _whole.setdefault(hosts, WeakKeyDictionary())
    view = known.get(routes)
    if view is None:
        view = known[routes] = View(
            routes.type_url,
            {
                name: _whole_route(item, [hosts.resources[n] for n in sorted(found.get(name, ()))])
                for name, item in routes.resources.items()
            },
        )
    return view


def _whole_route(route: DiscoveryResource, hosts: list[DiscoveryResource]) -> DiscoveryResource:
    if not hosts or not route.content or not all(host.content for host in hosts):
        return route  # known by version only, from a proxy that came back
    # Imported late: the API answers before what makes configuration has been loaded.
    from lateen.envoy.build import whole_route

    return whole_route(route, hosts)


def _groups(hosts: View) -> dict[str, frozenset[str]]:
    """Names of virtual hosts by that of their route configuration."""
    found = _grouped.get(hosts)
    if found is None:
        names: dict[str, list[str]] = {}
        for name in hosts.resources:
            names.setdefault(name.rpartition("/")[0], []).append(name)
        found = _grouped[hosts] = {route: intern_names(part) for route, part in names.items()}
    return found
