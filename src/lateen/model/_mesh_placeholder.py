"""Until the MeshConfig kind is there."""

from __future__ import annotations

import msgspec


class MeshConfig(msgspec.Struct, frozen=True):
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    default_service_export_to: list[str] = []
    default_virtual_service_export_to: list[str] = []
    default_destination_rule_export_to: list[str] = []
    enable_auto_mtls: bool = True
