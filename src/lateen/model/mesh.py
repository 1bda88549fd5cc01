"""The mesh configuration: where it comes from, and the few facts the model itself reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lateen.api.findings import Finding, Severity
from lateen.api.meshconfig import MeshConfig, mesh_config_of
from lateen.api.meshconfig.mesh_config import ServiceEntryVisibility
from lateen.api.resource import ObjectKey, Resource
from lateen.model.label_selectors import matches_selector

DEFAULT_ROOT_NAMESPACE = "istio-system"
DEFAULT_TRUST_DOMAIN = "cluster.local"
CONFIG_MAP = ObjectKey("", "ConfigMap", DEFAULT_ROOT_NAMESPACE, "istio")

DEFAULT_MESH = MeshConfig()
SCOPING = "LATEEN_SCOPING"
"""Key of ``MeshConfig.defaultConfig.proxyMetadata``: with the value ``observed`` sidecars get the
clusters that they have used, others when a request first needs them."""


def observed_scoping(mesh: MeshConfig) -> bool:
    """Whether sidecars get clusters on demand."""
    return mesh.default_config.proxy_metadata.get(SCOPING, "").lower() == "observed"


@dataclass(frozen=True, slots=True)
class MeshFacts:
    """Mesh-wide names and defaults, with the defaults of ``MeshConfig`` filled in."""

    root_namespace: str = DEFAULT_ROOT_NAMESPACE
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    service_export_to: tuple[str, ...] = ("*",)
    virtual_service_export_to: tuple[str, ...] = ("*",)
    destination_rule_export_to: tuple[str, ...] = ("*",)
    entry_visibility: ServiceEntryVisibility | None = None
    """``serviceEntryVisibility`` when it applies to sidecars."""

    def cap(
        self, exported: frozenset[str], namespace: str, labels: Mapping[str, str]
    ) -> frozenset[str]:
        """``exportTo`` of a ServiceEntry after ``MeshConfig.serviceEntryVisibility``, for a
        namespace with these labels: NAMESPACE clamps it to the own namespace, NONE hides it."""
        if self.entry_visibility is None:
            return exported
        visibility = _entry_visibility(self.entry_visibility, labels)
        if visibility == "NONE":
            return frozenset({"~"})
        if visibility == "NAMESPACE":
            inside = "*" in exported or namespace in exported
            return frozenset({namespace}) if inside else frozenset({"~"})
        return exported


def _entry_visibility(setting: ServiceEntryVisibility, labels: Mapping[str, str]) -> str:
    for policy in setting.policies:
        if all(
            rule.namespace_selector is not None
            and matches_selector(rule.namespace_selector, labels)
            for rule in policy.matching_rules
        ):
            return policy.visibility
    return setting.default_visibility


def mesh_facts(mesh: MeshConfig) -> MeshFacts:
    """The facts in ``mesh``."""
    visibility = mesh.service_entry_visibility
    return MeshFacts(
        root_namespace=mesh.root_namespace or DEFAULT_ROOT_NAMESPACE,
        trust_domain=mesh.trust_domain or DEFAULT_TRUST_DOMAIN,
        service_export_to=tuple(mesh.default_service_export_to) or ("*",),
        virtual_service_export_to=tuple(mesh.default_virtual_service_export_to) or ("*",),
        destination_rule_export_to=tuple(mesh.default_destination_rule_export_to) or ("*",),
        entry_visibility=(
            visibility if visibility is not None and visibility.apply_to_sidecars else None
        ),
    )


def holds_mesh_config(key: ObjectKey) -> bool:
    """Whether the object with this key may hold the mesh configuration."""
    return key == CONFIG_MAP or key.kind == "IstioOperator"


def read_mesh(
    resources: Iterable[Resource], base: MeshConfig, current: MeshConfig
) -> tuple[MeshConfig, tuple[Finding, ...]]:
    """The mesh configuration among ``resources`` and what is wrong with it.

    Without any it is ``base``; a broken one leaves ``current`` in force.
    """
    candidates = [resource for resource in resources if holds_mesh_config(resource.key)]
    if not candidates:
        return base, ()
    mesh, _, findings = mesh_config_of(candidates, DEFAULT_ROOT_NAMESPACE)
    if any(finding.severity is Severity.ERROR for finding in findings):
        return current, tuple(findings)
    return (current if mesh == current else mesh), tuple(findings)
