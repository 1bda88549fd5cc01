"""The mesh configuration: MeshConfig, ProxyConfig, MeshNetworks, IstioOperator."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.kinds import KindInfo
from lateen.api.meshconfig.mesh_config import MeshConfig
from lateen.api.meshconfig.networks import MeshNetworks
from lateen.api.meshconfig.operator import IstioOperator
from lateen.api.meshconfig.proxy_config import ProxyConfig
from lateen.api.meshconfig.reading import (
    annotated,
    mesh_config_in,
    mesh_config_of,
    overlay_proxy_config,
    parse_mesh_config,
    parse_mesh_networks,
    parse_proxy_config,
    proxy_config_in,
)
from lateen.api.report import Report
from lateen.api.validate import Validator

GROUP = "install.istio.io"

KINDS = (
    KindInfo(
        group=GROUP,
        kind="IstioOperator",
        plural="istiooperators",
        type=IstioOperator,
        versions=("v1alpha1",),
        short_names=("iop",),
        lenient=True,
        default_name="installed-state",
    ),
)


def validate_operator(_: IstioOperator, report: Report) -> None:
    """Check ``spec.meshConfig``."""
    report.findings += mesh_config_in(report.resource)[2]


VALIDATORS: Mapping[tuple[str, str], Validator] = {(GROUP, "IstioOperator"): validate_operator}

__all__ = [
    "GROUP",
    "KINDS",
    "VALIDATORS",
    "IstioOperator",
    "MeshConfig",
    "MeshNetworks",
    "ProxyConfig",
    "annotated",
    "mesh_config_in",
    "mesh_config_of",
    "overlay_proxy_config",
    "parse_mesh_config",
    "parse_mesh_networks",
    "parse_proxy_config",
    "proxy_config_in",
]
