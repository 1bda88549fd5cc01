"""The mesh as an immutable value: all objects, indexed, sharing what did not change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from lateen.api.findings import Finding
from lateen.api.meshconfig import MeshConfig
from lateen.api.resource import ObjectKey, Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.kinds import GroupKind
from lateen.model.layers import Draft, FlatView, Layers
from lateen.model.mesh import DEFAULT_MESH, MeshFacts, holds_mesh_config, mesh_facts, read_mesh
from lateen.model.registry import RegistryState, ServiceIndex, ServiceRegistry
from lateen.model.registry_update import RELEVANT, update

T = TypeVar("T")

Objects = Mapping[GroupKind, Layers[str, Resource]]


@dataclass(frozen=True, eq=False)
class Index(Generic[T]):
    """Something computed from objects of some kinds, kept from snapshot to snapshot until one of
    these kinds changes.

    ``build`` gets the snapshot and the last value (None after the mesh configuration changed), so
    that it can take over what is still good. ``services`` says that it reads service definitions.
    """

    name: str
    kinds: frozenset[GroupKind]
    build: Callable[[Snapshot, T | None], T]
    services: bool = False


class Snapshot:
    """All valid objects of a mesh at one moment.

    Immutable: `apply` makes the next one, which shares every unchanged part by identity.
    ``version`` counts up by one with each `apply` that changed something.
    """

    def __init__(
        self,
        objects: Objects,
        mesh: MeshConfig,
        registry: RegistryState,
        *,
        base_mesh: MeshConfig | None = None,
        mesh_findings: tuple[Finding, ...] = (),
        version: int = 0,
        index: ServiceIndex | None = None,
        derived: Mapping[Index[Any], object] | None = None,
        outdated: Mapping[Index[Any], object] | None = None,
    ) -> None:
        self._objects = objects
        self.mesh = mesh
        self.base_mesh = base_mesh if base_mesh is not None else DEFAULT_MESH
        self.mesh_findings = mesh_findings
        self.version = version
        self.services = ServiceRegistry(registry, index)
        self._derived: dict[Index[Any], object] = dict(derived or {})
        self._outdated: dict[Index[Any], object] = dict(outdated or {})

    @cached_property
    def mesh_facts(self) -> MeshFacts:
        """Mesh-wide names and defaults."""
        return mesh_facts(self.mesh)

    @property
    def root_namespace(self) -> str:
        """The namespace whose policies hold for all (``MeshConfig.rootNamespace``)."""
        return self.mesh_facts.root_namespace

    @property
    def trust_domain(self) -> str:
        """Trust domain of the mesh's identities."""
        return self.mesh_facts.trust_domain

    def get(self, key: ObjectKey) -> Resource | None:
        """The object with this key."""
        return self._objects.get((key.group, key.kind), {}).get(key.namespace, {}).get(key.name)

    def of_kind(self, group: str, kind: str) -> Mapping[tuple[str, str], Resource]:
        """All objects of a kind by ``(namespace, name)``."""
        return FlatView(self._objects.get((group, kind), {}))

    def in_namespace(self, group: str, kind: str, namespace: str) -> Mapping[str, Resource]:
        """The objects of a kind in one namespace, by name. The same mapping object comes back
        until one of them changes."""
        return self._objects.get((group, kind), {}).get(namespace, _NOTHING)

    def layers(self, kind: GroupKind) -> Layers[str, Resource]:
        """The objects of a kind by namespace and name; the same object until one changes."""
        return self._objects.get(kind, _NO_LAYERS)

    def resources(self) -> Iterable[Resource]:
        """Every object."""
        for layers in self._objects.values():
            for layer in layers.values():
                yield from layer.values()

    def namespace(self, name: str) -> Resource | None:
        """The Namespace object, if there is one."""
        return self.get(ObjectKey("", "Namespace", "", name))

    def derived(self, index: Index[T]) -> T:
        """The value of ``index`` for this snapshot, computed when first asked for."""
        if index in self._derived:
            return self._derived[index]  # type: ignore[return-value]  # written for this index only
        value = index.build(self, self._outdated.get(index))  # type: ignore[arg-type]
        self._derived[index] = value
        self._outdated.pop(index, None)
        return value

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong among the objects: those left out, and references that do not resolve."""
        from lateen.model.analysis import findings

        return findings(self)

    def __repr__(self) -> str:
        count = sum(len(layer) for layers in self._objects.values() for layer in layers.values())
        return f"Snapshot(version={self.version}, objects={count})"


_NOTHING: Mapping[str, Resource] = {}
_NO_LAYERS: Layers[str, Resource] = {}

EMPTY = Snapshot({}, DEFAULT_MESH, RegistryState())
"""A mesh without any object."""


def apply(snapshot: Snapshot, changes: Iterable[Change]) -> tuple[Snapshot, ChangeSet]:
    """The snapshot after ``changes``, and what differs. Never raises on account of an object.

    Costs are proportional to what changes. Of several changes to one key the last counts; a
    change that leaves an object as it is is none.
    """
    drafts: dict[GroupKind, Draft[str, Resource]] = {}
    before: dict[ObjectKey, Resource | None] = {}
    for change in changes:
        key = change.key
        kind = (key.group, key.kind)
        draft = drafts.get(kind)
        if draft is None:
            draft = drafts[kind] = Draft(snapshot.layers(kind))
        if key not in before:
            before[key] = draft.get(key.namespace, key.name)
        if change.resource is None:
            draft.delete(key.namespace, key.name)
        else:
            draft.set(key.namespace, key.name, change.resource)
    layers = {kind: draft.result() for kind, draft in drafts.items()}
    objects: Objects = {**snapshot._objects, **layers}
    keys = frozenset(key for key, old in before.items() if _get(objects, key) is not old)
    if not keys:
        return snapshot, ChangeSet()
    mesh, mesh_findings = snapshot.mesh, snapshot.mesh_findings
    if any(holds_mesh_config(key) for key in keys):
        mesh, mesh_findings = read_mesh(_holders(objects), snapshot.base_mesh, mesh)
    if mesh != snapshot.mesh:
        return _rebuilt(snapshot, objects, mesh, keys, snapshot.base_mesh, mesh_findings)
    changed_kinds = {(key.group, key.kind) for key in keys}
    state = snapshot.services.state
    result = None
    if changed_kinds & RELEVANT:
        result = update(
            state, state, keys, before.__getitem__, _lookup(objects), snapshot.mesh_facts
        )
        state = result.state
    services = result.services if result is not None else frozenset()
    outdated = {
        index
        for index in snapshot._derived
        if index.kinds & changed_kinds or (index.services and services)
    }
    changed = Snapshot(
        objects,
        snapshot.mesh,
        state,
        base_mesh=snapshot.base_mesh,
        mesh_findings=mesh_findings,
        version=snapshot.version + 1,
        index=None if services else snapshot.services.index,
        derived={i: v for i, v in snapshot._derived.items() if i not in outdated},
        outdated={**snapshot._outdated, **{i: snapshot._derived[i] for i in outdated}},
    )
    return changed, ChangeSet(
        keys=keys,
        services=services,
        endpoints=result.endpoints if result is not None else frozenset(),
        inline=result.inline if result is not None else frozenset(),
        workloads=result.workloads if result is not None else frozenset(),
        listed=result.listed if result is not None else frozenset(),
    )


def _rebuilt(
    snapshot: Snapshot,
    objects: Objects,
    mesh: MeshConfig,
    keys: frozenset[ObjectKey],
    base_mesh: MeshConfig,
    mesh_findings: tuple[Finding, ...],
) -> tuple[Snapshot, ChangeSet]:
    """Everything anew under another mesh configuration; equal services keep their identity."""
    relevant = [
        resource.key
        for kind in RELEVANT
        for layer in objects.get(kind, {}).values()
        for resource in layer.values()
    ]
    result = update(
        RegistryState(),
        snapshot.services.state,
        relevant,
        lambda key: None,
        _lookup(objects),
        mesh_facts(mesh),
    )
    changed = Snapshot(
        objects,
        mesh,
        result.state,
        base_mesh=base_mesh,
        mesh_findings=mesh_findings,
        version=snapshot.version + 1,
    )
    return changed, ChangeSet(
        keys=keys,
        services=result.services,
        endpoints=result.endpoints,
        inline=result.inline,
        workloads=result.workloads,
        listed=result.listed,
        everything=True,
    )


def with_mesh(snapshot: Snapshot, base: MeshConfig) -> tuple[Snapshot, ChangeSet]:
    """The snapshot with another base configuration (from a file or an option), which holds
    unless an object of the mesh has one."""
    mesh, findings = read_mesh(_holders(snapshot._objects), base, snapshot.mesh)
    return _rebuilt(snapshot, snapshot._objects, mesh, frozenset(), base, findings)


def _holders(objects: Objects) -> Iterable[Resource]:
    """Objects that may hold the mesh configuration, in a stable order."""
    kinds = [kind for kind in objects if kind[1] in ("ConfigMap", "IstioOperator")]
    for kind in sorted(kinds):
        for _, layer in sorted(objects[kind].items()):
            for _, resource in sorted(layer.items()):
                yield resource


def _get(objects: Objects, key: ObjectKey) -> Resource | None:
    return objects.get((key.group, key.kind), {}).get(key.namespace, {}).get(key.name)


def _lookup(objects: Objects) -> Callable[[ObjectKey], Resource | None]:
    return lambda key: _get(objects, key)


def snapshot_of(resources: Iterable[Resource]) -> Snapshot:
    """A snapshot of exactly these objects."""
    return apply(EMPTY, [Change(resource.key, resource) for resource in resources])[0]


__all__ = ["EMPTY", "Index", "Snapshot", "apply", "snapshot_of", "with_mesh"]
