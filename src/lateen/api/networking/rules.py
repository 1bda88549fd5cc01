"""Rules about ``networking.istio.io``."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

HOST = Rule("LT0101", "Invalid host", "Hosts are DNS names, `*.`-wildcards where that is allowed.")
PORT = Rule(
    "LT0102", "Invalid port", "Ports are 1 to 65535 with a known protocol and a unique name."
)
TLS = Rule("LT0103", "Inconsistent TLS settings", "Mode and certificates do not fit together.")
ROUTE = Rule("LT0104", "Inconsistent route", "A route does exactly one thing, with valid parts.")
MATCH = Rule("LT0105", "Invalid match", "A match has conditions that cannot hold or be compiled.")
HEADER = Rule("LT0106", "Invalid header", "A header's name or value cannot be sent.")
DURATION = Rule("LT0107", "Invalid duration", "Durations are at least 1ms, in whole milliseconds.")
PERCENTAGE = Rule("LT0108", "Invalid percentage", "Percentages are 0 to 100.")
WEIGHT = Rule("LT0109", "Invalid weight", "Weights are not negative and not all zero.")
UNREACHABLE = Rule(
    "LT0110",
    "Rule or match never used",
    "An earlier rule takes all of its traffic; reorder or remove it.",
    Severity.WARNING,
)
EXPORT = Rule("LT0111", "Invalid exportTo", "`*`, `.`, `~` and namespaces, without contradiction.")
SELECTOR = Rule("LT0112", "Invalid selector", "Selectors are exact labels, without wildcards.")
POLICY = Rule("LT0113", "Inconsistent traffic policy", "Settings contradict or exclude each other.")
ENDPOINT = Rule("LT0114", "Invalid endpoint", "Address, ports or labels of an endpoint are wrong.")
GATEWAY_NAME = Rule(
    "LT0115", "Invalid gateway reference", "Gateways are `NAME`, `NAMESPACE/NAME` or `mesh`."
)
LISTENER = Rule("LT0116", "Inconsistent listener", "Listeners of a sidecar contradict each other.")
PATCH = Rule(
    "LT0117", "Inconsistent patch", "applyTo, match and patch of an EnvoyFilter do not fit."
)
PROBE = Rule("LT0118", "Inconsistent probe", "A probe has exactly one method with valid settings.")
DEPRECATED = Rule(
    "LT0119",
    "Deprecated setting",
    "The setting still works; another one replaces it.",
    Severity.WARNING,
)
RISKY = Rule(
    "LT0120",
    "Accepted, but probably not what you mean",
    "The object is valid, but part of it has no or a surprising effect.",
    Severity.WARNING,
)
ONE_OF = Rule("LT0121", "Several of which one is allowed", "The fields exclude each other.")

RULES = (
    HOST,
    PORT,
    TLS,
    ROUTE,
    MATCH,
    HEADER,
    DURATION,
    PERCENTAGE,
    WEIGHT,
    UNREACHABLE,
    EXPORT,
    SELECTOR,
    POLICY,
    ENDPOINT,
    GATEWAY_NAME,
    LISTENER,
    PATCH,
    PROBE,
    DEPRECATED,
    RISKY,
    ONE_OF,
)
