"""From a snapshot and a scope to the resources its proxies shall have.

`ConfigGenerator` is what pushes need; `MeshGenerator` is the real one, over model, translate and
envoy. Tests of the protocol bring their own small one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lateen.model.change import ChangeSet
from lateen.model.discovery import ENDPOINT, DiscoveryResource, ResourceSet
from lateen.model.proxy import Proxy, Scope
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
        from lateen.translate import endpoints, translate, view

        self._build = build
        self._endpoints = endpoints
        self._scope_of = scope_of
        self._translate = translate
        self._view = view

    def scope_of(self, snapshot: Snapshot, proxy: Proxy) -> Scope:
        """See `ConfigGenerator`."""
        return self._scope_of(snapshot, proxy)

    def generate(self, snapshot: Snapshot, scope: Scope) -> ResourceSet:
        """See `ConfigGenerator`."""
        return self._build.resources(self._translate.translate(snapshot, scope))

    def update(
        self, snapshot: Snapshot, scope: Scope, previous: ResourceSet, changes: ChangeSet
    ) -> ResourceSet:
        """See `ConfigGenerator`. Endpoint changes rebuild the load assignments they touch."""
        if not changes.only_endpoints:
            return self.generate(snapshot, scope)
        view = self._view.View(snapshot, scope)
        assignments: Mapping[str, DiscoveryResource] = previous.get(ENDPOINT, {})
        updated = dict(assignments)
        for hostname, namespace in changes.endpoints:
            service = snapshot.services.get(hostname, namespace)
            if service is None:
                continue
            for assignment in self._endpoints.load_assignments(view, service):
                # A scope that does not have the cluster does not see the service.
                if assignment.cluster in assignments:
                    updated[assignment.cluster] = self._build.resource(assignment)
        return {**previous, ENDPOINT: updated}
