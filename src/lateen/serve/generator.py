"""From a snapshot and a scope to the resources its proxies shall have.

`ConfigGenerator` is what pushes need; `MeshGenerator` is the real one, over model, translate and
envoy. Tests of the protocol bring their own small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lateen.model.change import ChangeSet
from lateen.model.discovery import ENDPOINT, DiscoveryResource, ResourceSet
from lateen.model.proxy import Proxy, ProxyType, Scope
from lateen.model.service import Resolution
from lateen.model.snapshot import Snapshot


class ConfigGenerator(Protocol):
    """Makes configuration. Pure: equal inputs give equal results."""

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """The facts of ``proxy`` that its configuration depends on."""

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        """All resources of a scope."""

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        """What ``generate`` would give, made from ``previous`` and what changed since.

        Returns ``previous`` itself when the changes do not touch the scope.
        """


class MeshGenerator:
    """The mesh's own `ConfigGenerator`."""

    def __init__(self) -> None:
        # Imported late: the API and the CA answer before the translation has been loaded.
        from lateen.envoy import build
        from lateen.model.scope import scope_of
        from lateen.translate import configuration, endpoints
        from lateen.translate.view import View

        self._build = build
        self._endpoints = endpoints
        self._scope_of = scope_of
        self._configuration = configuration
        self._view = View

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """See `ConfigGenerator`."""
        return self._scope_of(snapshot, proxy)

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        """See `ConfigGenerator`."""
        return self._build.resources(self._configuration.translate(snapshot, scope))

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        """See `ConfigGenerator`.

        A change of nothing but endpoints rebuilds the load assignments of their services.
        Services whose endpoints shape more than that (headless ones have listeners of their own,
        DNS ones have endpoints in their clusters), and gateways, are generated anew; memoised
        parts make that cheap.
        """
        if not changes.only_endpoints or scope.type is not ProxyType.SIDECAR:
            return self.generate(snapshot, scope)
        view = self._view(snapshot, scope)
        assignments: Mapping[str, DiscoveryResource] = previous.get(ENDPOINT, {})
        changed: dict[str, DiscoveryResource] = {}
        for hostname, namespace in changes.endpoints:
            service = snapshot.services.get(hostname, namespace)
            if service is None:
                continue
            if service.resolution is not Resolution.CLIENT_SIDE:
                return self.generate(snapshot, scope)
            for assignment in self._endpoints.load_assignments(view, service):
                before = assignments.get(assignment.cluster)
                # A scope that does not have the cluster does not see the service.
                if before is not None:
                    made = self._build.resource(assignment)
                    if made.version != before.version:
                        changed[assignment.cluster] = made
        return {**previous, ENDPOINT: {**assignments, **changed}} if changed else previous
