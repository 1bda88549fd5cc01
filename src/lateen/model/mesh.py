"""The few facts of the mesh configuration that the model itself reads."""

from __future__ import annotations

from dataclasses import dataclass

try:
    from lateen.api.meshconfig import MeshConfig
except ImportError:  # not there yet
    from lateen.model._mesh_placeholder import MeshConfig

DEFAULT_ROOT_NAMESPACE = "istio-system"
DEFAULT_TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class MeshFacts:
    """Mesh-wide names and defaults, with the defaults of ``MeshConfig`` filled in."""

    root_namespace: str = DEFAULT_ROOT_NAMESPACE
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    service_export_to: tuple[str, ...] = ("*",)
    virtual_service_export_to: tuple[str, ...] = ("*",)
    destination_rule_export_to: tuple[str, ...] = ("*",)


def mesh_facts(mesh: MeshConfig) -> MeshFacts:
    """The facts in ``mesh``."""
    return MeshFacts(
        root_namespace=mesh.root_namespace or DEFAULT_ROOT_NAMESPACE,
        trust_domain=mesh.trust_domain or DEFAULT_TRUST_DOMAIN,
        service_export_to=tuple(mesh.default_service_export_to or ("*",)),
        virtual_service_export_to=tuple(mesh.default_virtual_service_export_to or ("*",)),
        destination_rule_export_to=tuple(mesh.default_destination_rule_export_to or ("*",)),
    )


DEFAULT_MESH = MeshConfig()


def mesh_of(objects: object, current: MeshConfig) -> MeshConfig:
    """The mesh configuration that the objects hold."""
    return current
