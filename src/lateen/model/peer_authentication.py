"""PeerAuthentication: which mutual TLS mode holds for a workload and each of its ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lateen.api.findings import Finding
from lateen.api.resource import Resource
from lateen.api.security.authentication import MutualTLS, MutualTLSMode, PeerAuthentication
from lateen.model import kinds, rules
from lateen.model.ordering import age_key
from lateen.model.selection import selects, workload_selector
from lateen.model.snapshot import Index, Snapshot


@dataclass(frozen=True, slots=True)
class EffectivePeerAuthentication:
    """The mode of a workload (never UNSET), ports that differ, and the policies that decided.

    Keys of ``ports`` are ports of the workload, not of a service.
    """

    mode: MutualTLSMode = "PERMISSIVE"
    ports: Mapping[int, MutualTLSMode] = field(default_factory=dict)
    sources: tuple[Resource, ...] = ()

    def port_mode(self, port: int) -> MutualTLSMode:
        """The mode of one workload port."""
        return self.ports.get(port, self.mode)


@dataclass(frozen=True, slots=True, eq=False)
class _Namespace:
    wide: Resource | None = None
    """The policy without selector."""
    narrow: tuple[Resource, ...] = ()
    """Policies with a selector, oldest first."""


_NOTHING = _Namespace()


class PeerAuthentications:
    """All PeerAuthentications of a snapshot; the oldest of each scope holds."""

    __slots__ = ("_namespaces", "_root", "findings")

    def __init__(
        self, namespaces: Mapping[str, _Namespace], root: str, findings: tuple[Finding, ...]
    ) -> None:
        self._namespaces = namespaces
        self._root = root
        self.findings = findings

    def mesh_mode(self) -> MutualTLSMode:
        """The mode of the whole mesh; PERMISSIVE unless a policy in the root namespace differs."""
        return _override("PERMISSIVE", self._wide(self._root))

    def namespace_mode(self, namespace: str) -> MutualTLSMode:
        """The mode of a namespace as a whole."""
        if namespace == self._root:
            return self.mesh_mode()
        return _override(self.mesh_mode(), self._wide(namespace))

    def policies(self, namespace: str) -> tuple[Resource | None, ...]:
        """All that modes of workloads in ``namespace`` follow from, in a fixed order: the
        policies of the mesh and of the namespace (or None), then those with a selector."""
        own = self._namespaces.get(namespace, _NOTHING)
        return (self._wide(self._root), own.wide, *own.narrow)

    def narrow(self, namespace: str) -> tuple[Resource, ...]:
        """The policies of ``namespace`` with a selector, oldest first."""
        return self._namespaces.get(namespace, _NOTHING).narrow

    def effective(self, namespace: str, labels: Mapping[str, str]) -> EffectivePeerAuthentication:
        """What holds for a workload: mesh, then namespace, then the oldest policy that selects it.

        UNSET takes over the wider scope's mode. Policies with a selector in the root namespace
        select only workloads of that namespace.
        """
        sources = [self._wide(self._root)]
        if namespace != self._root:
            sources.append(self._wide(namespace))
        mode = self.namespace_mode(namespace)
        ports: dict[int, MutualTLSMode] = {}
        for policy in self._namespaces.get(namespace, _NOTHING).narrow:
            if selects(workload_selector(policy.object) or {}, labels):
                sources.append(policy)
                mode = _override(mode, policy)
                settings = _policy(policy).spec.ports
                ports = {port: _mode(value, mode) for port, value in settings.items()}
                break
        return EffectivePeerAuthentication(mode, ports, tuple(s for s in sources if s is not None))

    def mode(
        self, namespace: str, labels: Mapping[str, str], port: int | None = None
    ) -> MutualTLSMode:
        """The mode of a workload, or of one of its ports."""
        found = self.effective(namespace, labels)
        return found.mode if port is None else found.port_mode(port)

    def _wide(self, namespace: str) -> Resource | None:
        return self._namespaces.get(namespace, _NOTHING).wide


def peer_authentications(snapshot: Snapshot) -> PeerAuthentications:
    """The PeerAuthentications of a snapshot."""
    return snapshot.derived(_INDEX)


def _policy(resource: Resource) -> PeerAuthentication:
    assert isinstance(resource.object, PeerAuthentication)
    return resource.object


def _mode(settings: MutualTLS | None, inherited: MutualTLSMode) -> MutualTLSMode:
    if settings is None or settings.mode == "UNSET":
        return inherited
    return settings.mode


def _override(inherited: MutualTLSMode, resource: Resource | None) -> MutualTLSMode:
    return inherited if resource is None else _mode(_policy(resource).spec.mtls, inherited)


def _build(snapshot: Snapshot, previous: PeerAuthentications | None) -> PeerAuthentications:
    namespaces = {}
    findings: list[Finding] = []
    for namespace, layer in sorted(snapshot.layers(kinds.PEER_AUTHENTICATION).items()):
        ordered = sorted(layer.values(), key=age_key)
        narrow = tuple(r for r in ordered if workload_selector(r.object) is not None)
        wide = [r for r in ordered if workload_selector(r.object) is None]
        namespaces[namespace] = _Namespace(wide[0] if wide else None, narrow)
        findings += [_shadowed(r, wide[0]) for r in wide[1:]]
    return PeerAuthentications(namespaces, snapshot.root_namespace, tuple(findings))


_INDEX: Index[PeerAuthentications] = Index(
    "peer-authentications", frozenset({kinds.PEER_AUTHENTICATION}), _build
)


def _shadowed(resource: Resource, winner: Resource) -> Finding:
    return rules.finding(
        rules.POLICY_SHADOWED,
        resource,
        (),
        f"{winner.key} ({winner.provenance}) is older and holds for the whole namespace",
        "Keep one PeerAuthentication without selector per namespace.",
    )
