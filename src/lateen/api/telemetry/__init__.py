"""telemetry.istio.io: Telemetry."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.kinds import KindInfo
from lateen.api.telemetry.telemetry import Telemetry
from lateen.api.telemetry.validation import validate_telemetry
from lateen.api.validate import Validator

GROUP = "telemetry.istio.io"

KINDS = (
    KindInfo(
        group=GROUP,
        kind="Telemetry",
        plural="telemetries",
        type=Telemetry,
        versions=("v1", "v1alpha1"),
        short_names=("telemetry",),
    ),
)

VALIDATORS: Mapping[tuple[str, str], Validator] = {(GROUP, "Telemetry"): validate_telemetry}

__all__ = ["GROUP", "KINDS", "VALIDATORS", "Telemetry"]
