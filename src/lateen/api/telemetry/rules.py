"""Rules about telemetry.istio.io."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

FIRST_ONLY = Rule(
    "LT0401",
    "Only the first is used",
    "A workload has one tracing configuration with one provider; further ones have no effect.",
    Severity.WARNING,
)
BAD_TAG = Rule(
    "LT0402", "Bad custom tag", "A span tag has a name and exactly one source for its value."
)
BAD_TAG_OVERRIDE = Rule(
    "LT0403",
    "Bad tag override",
    "UPSERT, the default operation, needs a value; REMOVE must have none.",
)
UNNAMED_TAG = Rule(
    "LT0404", "Tag without name", "A label needs a name to be seen.", Severity.WARNING
)
TWO_METRICS = Rule(
    "LT0405", "Two metrics in one match", "A match names a standard or a custom metric, not both."
)
BAD_EXPRESSION = Rule(
    "LT0406",
    "Not a CEL expression",
    "Filters and label values are Common Expression Language over Envoy's attributes.",
)
BAD_INTERVAL = Rule(
    "LT0407",
    "Bad interval",
    "A reporting interval is at least 1 ms; without one, TCP is reported every 5 s.",
)

RULES = (
    FIRST_ONLY,
    BAD_TAG,
    BAD_TAG_OVERRIDE,
    UNNAMED_TAG,
    TWO_METRICS,
    BAD_EXPRESSION,
    BAD_INTERVAL,
)
