"""Virtual hosts after changes that leave everything but their routes as it was.

Most changes of VirtualServices are of that kind: a weight, a timeout, a match. Which hosts there
are, who speaks for them and by which domains they are known then stays, so the virtual hosts of
the changed VirtualServices are all there is to make. Everything else is told to be made anew
(`lateen.translate.routes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lateen.ir.route import VirtualHost
from lateen.model.names import is_wildcard
from lateen.model.ordering import age_key
from lateen.model.service import Resolution
from lateen.model.virtual_services import EffectiveVirtualService
from lateen.translate import names
from lateen.translate.routes import Known, concerns_every_client, virtual_host
from lateen.translate.view import View


@dataclass(frozen=True, slots=True)
class Replacement:
    """One virtual host of the route configuration called ``route``, before and after."""

    route: str
    before: VirtualHost
    after: VirtualHost


def replacements(
    view: View,
    known: Known,
    changed: Iterable[EffectiveVirtualService],
    route_names: Iterable[str],
) -> tuple[Replacement, ...] | None:
    """What ``changed`` VirtualServices (before and after, in any order) replace.

    ``known`` are the virtual hosts of the scope as they were made last, of the route
    configurations ``route_names`` that have hosts of ``changed``. None when more may differ.
    """
    pairs = _pairs(changed)
    if pairs is None:
        return None
    existing = frozenset(route_names)
    found: list[Replacement] = []
    for old, new in pairs:
        for hostname in new.hosts:
            service = view.service(hostname)
            if service is None or is_wildcard(hostname):
                return None
            if service.resolution is Resolution.ALIAS:
                return None  # it has the ports of what it stands for
            for port in service.ports:
                if names.sniffed_route(hostname, port.number) in existing:
                    return None
                entry = known.get((hostname, port.number))
                if entry is None:
                    if str(port.number) in existing:
                        return None
                    continue
                if entry[0] is not service or entry[1] is new:
                    return None
                if entry[1] is not old:
                    continue  # another VirtualService speaks for the host on this port
                made = virtual_host(view, hostname, service, new, port.number)
                if made.domains != entry[2].domains:
                    return None
                found.append(Replacement(str(port.number), entry[2], made))
                known[hostname, port.number] = (service, new, made)
    return tuple(found)


def _pairs(
    changed: Iterable[EffectiveVirtualService],
) -> list[tuple[EffectiveVirtualService, EffectiveVirtualService]] | None:
    """Each changed VirtualService before and after, when only its HTTP routes differ."""
    forms: dict[object, list[EffectiveVirtualService]] = {}
    for routing in changed:
        forms.setdefault(routing.resource.key, []).append(routing)
    pairs = []
    for each in forms.values():
        if len(each) != 2:
            return None
        old, new = each
        if _frame(old) != _frame(new):
            return None
        if not concerns_every_client(old) or not concerns_every_client(new):
            return None  # for some clients it may be there now and not before
        pairs.append((old, new))
    return pairs


def _frame(routing: EffectiveVirtualService) -> object:
    """What decides where a VirtualService counts, and before which others."""
    return (
        routing.hosts,
        routing.gateways,
        routing.export_to,
        bool(routing.http),
        routing.tls,
        routing.tcp,
        age_key(routing.resource),
    )
