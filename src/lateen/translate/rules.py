"""Rules about configuration that cannot take effect as written (``LT2xxx``)."""

from __future__ import annotations

from lateen.api.findings import FieldPath, Finding, Severity
from lateen.api.resource import ObjectKey, Provenance
from lateen.api.rule import Rule

LISTENER_CONFLICT = Rule(
    "LT2001",
    "Service port shadowed by an older one",
    "Two TCP ports share address and number and nothing on the wire tells them apart; the older "
    "service gets the traffic.",
    Severity.WARNING,
)
SERVER_CONFLICT = Rule(
    "LT2002",
    "Gateway server left out",
    "An older Gateway of the same proxies uses the port in a way that excludes this server.",
)
UNKNOWN_HOST = Rule(
    "LT2003",
    "Destination host unknown",
    "No Service or ServiceEntry that the proxy sees has this host; requests get 503.",
)
UNKNOWN_SUBSET = Rule(
    "LT2004",
    "Subset unknown",
    "No DestinationRule that applies defines this subset for the host; requests get 503.",
)
UNKNOWN_PORT = Rule(
    "LT2005",
    "Destination port unknown",
    "The destination service has no such port; requests get 503.",
)
NO_EFFECT_YET = Rule(
    "LT2006",
    "Accepted, without effect in this version",
    "The object (or the field) is valid, but this version of Lateen does not act on it.",
    Severity.WARNING,
)
HOST_TAKEN = Rule(
    "LT2007",
    "Host of an older VirtualService",
    "For sidecars one VirtualService speaks for a host: the oldest. The rules of this one have no "
    "effect for the host.",
    Severity.WARNING,
)
UNKNOWN_GATEWAY = Rule(
    "LT2008",
    "Gateway unknown",
    "The VirtualService names a Gateway that does not exist, so these routes are nowhere.",
    Severity.WARNING,
)
NOT_ENFORCED = Rule(
    "LT2009",
    "Security policy not enforced",
    "The policy is valid, but this version of Lateen does not enforce it: traffic that it should "
    "refuse is let through.",
    Severity.ERROR,
)
NO_PORT = Rule(
    "LT2010",
    "Destination port ambiguous",
    "The destination service has several ports and none is named; the listener's port is used and "
    "the service does not have it.",
)
CREDENTIAL_MISSING = Rule(
    "LT2011",
    "Credential missing",
    "The Secret or ConfigMap that is named does not exist where the proxy may use it. The server "
    "refuses its connections, or requests to the host get 503, until it is there.",
    Severity.WARNING,
)
CREDENTIAL_UNUSABLE = Rule(
    "LT2012",
    "Credential cannot be used",
    "The Secret or ConfigMap that is named lacks what is needed, or proxies could not load it. The "
    "server refuses its connections, or requests to the host get 503, until it is right.",
)
CERTIFICATE_EXPIRES = Rule(
    "LT2013",
    "Certificate expires",
    "A certificate of the credential that a Gateway's server names has expired, or does within 7 "
    "days. It is served nevertheless; clients refuse it once it has expired.",
    Severity.WARNING,
)

RULES = (
    LISTENER_CONFLICT,
    SERVER_CONFLICT,
    UNKNOWN_HOST,
    UNKNOWN_SUBSET,
    UNKNOWN_PORT,
    NO_EFFECT_YET,
    HOST_TAKEN,
    UNKNOWN_GATEWAY,
    NOT_ENFORCED,
    NO_PORT,
    CREDENTIAL_MISSING,
    CREDENTIAL_UNUSABLE,
    CERTIFICATE_EXPIRES,
)


def finding(
    rule: Rule,
    key: ObjectKey,
    provenance: Provenance,
    path: FieldPath,
    message: str,
    hint: str = "",
) -> Finding:
    """A finding of ``rule`` about an object."""
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        message=message,
        hint=hint,
        key=key,
        path=path,
        provenance=provenance,
    )
