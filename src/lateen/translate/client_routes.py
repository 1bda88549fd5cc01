"""Virtual hosts for one client, from those that were made for another one.

Clients of different namespaces that see the same services and rules agree on nearly all virtual
hosts: a host is known by its shortest name in its own namespace only, and few VirtualServices tell
clients apart. So routes are made whole for the first namespace, and for each other one what differs
(`lateen.translate.routes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from lateen.ir.route import VirtualHost
from lateen.model.names import DOMAIN
from lateen.translate.route_update import Replacement
from lateen.translate.routes import (
    Known,
    concerns_every_client,
    speaks_for,
    virtual_host,
)
from lateen.translate.view import View, tells_clients_apart

_SERVICES = f".svc.{DOMAIN}"


class ClientRoutes:
    """The virtual hosts of one client, ready to be turned into those of others."""

    def __init__(self, view: View, known: Known) -> None:
        """``known`` are all virtual hosts that were made for ``view``; they are kept."""
        self._view = view
        self._known = dict(known)

    def replacements(self, view: View) -> tuple[tuple[Replacement, ...], Known] | None:
        """What another client has instead, and all of its virtual hosts.

        Its `View.egress_facts` must be those of the first client. None when the two may differ in
        more than that, because hosts fight for a name.
        """
        if not self._distinct or not self._same_owners:
            return None
        known, found = dict(self._known), list[Replacement]()
        gained: dict[int, list[str]] = {}
        lost: dict[int, set[str]] = {}
        for hostname, port in self._concerned(view):
            service, routing, before = self._known[hostname, port]
            after = virtual_host(view, hostname, service, routing, port)
            if after is before:
                continue
            known[hostname, port] = (service, routing, after)
            found.append(Replacement(str(port), before, after))
            gained.setdefault(port, []).extend(set(after.domains) - set(before.domains))
            lost.setdefault(port, set()).update(set(before.domains) - set(after.domains))
        for port, fresh in gained.items():
            others = self._domains[port] - lost[port]
            if len(set(fresh)) < len(fresh) or not others.isdisjoint(fresh):
                return None
        return tuple(found), known

    def suits_all(self, route_name: str) -> bool:
        """Whether a route configuration of one host (``HOST:PORT``) is the same for all clients.
        It matches every name, so only a VirtualService can tell them apart."""
        hostname, _, number = route_name.rpartition(":")
        service = self._view.service(hostname)
        if service is None:
            return True
        owner = speaks_for(self._view, hostname, int(number))
        return self._same_owners and (owner is None or not tells_clients_apart(owner))

    @cached_property
    def _same_owners(self) -> bool:
        """Whether the same VirtualServices speak for a host to all clients: none is there for some
        clients alone."""
        return all(
            concerns_every_client(routing) or not tells_clients_apart(routing)
            for routing in self._view.routings
            if routing.http
        )

    def _concerned(self, view: View) -> Iterator[tuple[str, int]]:
        """Hosts that the two clients may know in different forms."""
        homes = (self._view.scope.namespace, view.scope.namespace)
        if homes[0] != homes[1]:
            places = [place for home in homes for place in self._by_home.get(home, ())]
            yield from dict.fromkeys([*places, *self._told_apart])

    @cached_property
    def _by_home(self) -> dict[str, list[tuple[str, int]]]:
        """Hosts by the namespaces in which they have a shorter name."""
        found: dict[str, list[tuple[str, int]]] = {}
        for place, (service, _, _) in self._known.items():
            aliases = self._view.aliases(service) if service is not None else ()
            for name in (place[0], *aliases):
                if name.endswith(_SERVICES):
                    home = name[: -len(_SERVICES)].rpartition(".")[2]
                    found.setdefault(home, []).append(place)
        return found

    @cached_property
    def _told_apart(self) -> tuple[tuple[str, int], ...]:
        return tuple(
            place
            for place, (_, routing, _) in self._known.items()
            if routing is not None and tells_clients_apart(routing)
        )

    @cached_property
    def _domains(self) -> dict[int, frozenset[str]]:
        """All domains of a port."""
        return {
            port: frozenset(name for host in hosts for name in host.domains)
            for port, hosts in self._by_port.items()
        }

    @cached_property
    def _by_port(self) -> dict[int, list[VirtualHost]]:
        found: dict[int, list[VirtualHost]] = {}
        for (_, port), (_, _, host) in self._known.items():
            found.setdefault(port, []).append(host)
        return found

    @cached_property
    def _distinct(self) -> bool:
        """Whether no two hosts of a port have a domain in common."""
        return all(
            len(self._domains[port]) == sum(len(host.domains) for host in hosts)
            for port, hosts in self._by_port.items()
        )
