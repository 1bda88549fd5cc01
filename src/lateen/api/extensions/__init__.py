"""extensions.istio.io: WasmPlugin, TrafficExtension."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.extensions.extension import TrafficExtension, WasmPlugin
from lateen.api.extensions.validation import validate_traffic_extension, validate_wasm_plugin
from lateen.api.kinds import KindInfo
from lateen.api.validate import Validator

GROUP = "extensions.istio.io"

KINDS = (
    KindInfo(
        group=GROUP,
        kind="WasmPlugin",
        plural="wasmplugins",
        type=WasmPlugin,
        versions=("v1alpha1",),
    ),
    KindInfo(
        group=GROUP,
        kind="TrafficExtension",
        plural="trafficextensions",
        type=TrafficExtension,
        versions=("v1alpha1",),
    ),
)

VALIDATORS: Mapping[tuple[str, str], Validator] = {
    (GROUP, "WasmPlugin"): validate_wasm_plugin,
    (GROUP, "TrafficExtension"): validate_traffic_extension,
}

__all__ = ["GROUP", "KINDS", "VALIDATORS", "TrafficExtension", "WasmPlugin"]
