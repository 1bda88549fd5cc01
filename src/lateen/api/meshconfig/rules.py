"""Rules about the mesh configuration."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

UNKNOWN_SETTING = Rule(
    "LT0701",
    "Unknown setting",
    "The mesh configuration has no such field; it has no effect.",
    Severity.WARNING,
)
BAD_SETTING = Rule("LT0702", "Bad setting", "The value is outside of what the setting takes.")
BAD_PROVIDER = Rule(
    "LT0703",
    "Bad extension provider",
    "A provider has a unique name and one kind; what uses a broken one fails closed.",
    Severity.WARNING,
)
BAD_CURVES = Rule(
    "LT0704",
    "Bad ECDH curves",
    "Mesh traffic takes no curves; elsewhere unknown ones have no effect.",
)
BAD_NETWORK = Rule(
    "LT0705", "Bad network", "A network names its endpoints and how its gateways are reached."
)
SEVERAL_CONFIGURATIONS = Rule(
    "LT0706",
    "Several mesh configurations",
    "A mesh has one configuration; the others have no effect.",
    Severity.WARNING,
)

RULES = (
    UNKNOWN_SETTING,
    BAD_SETTING,
    BAD_PROVIDER,
    BAD_CURVES,
    BAD_NETWORK,
    SEVERAL_CONFIGURATIONS,
)
