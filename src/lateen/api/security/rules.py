"""Rules about security.istio.io, and about attaching policies to workloads."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

SEVERAL_ATTACHMENTS = Rule(
    "LT0301",
    "Several ways to attach",
    "A policy is for the workloads of a selector or for its targetRefs, never for both.",
)
BAD_TARGET = Rule(
    "LT0302",
    "Target not supported",
    "A policy can target a Gateway, GatewayClass, Service or ServiceEntry of its own namespace.",
)
WILDCARD_SELECTOR = Rule(
    "LT0303", "Bad selector", "Selectors compare label keys and values exactly."
)
EMPTY_SELECTOR = Rule(
    "LT0304",
    "Selector without labels",
    "An empty selector selects every workload of the namespace, which is rarely meant.",
    Severity.WARNING,
)
DRY_RUN_UNSUPPORTED = Rule(
    "LT0305",
    "Dry run not possible",
    "Only AuthorizationPolicy with action ALLOW or DENY can be tried out without enforcing.",
)
PROVIDER_MISMATCH = Rule(
    "LT0310",
    "Provider and action disagree",
    "Action CUSTOM needs provider.name; every other action must have no provider.",
)
RULES_MISSING = Rule(
    "LT0311",
    "Policy never matches",
    "A DENY or CUSTOM policy without rules does nothing. One empty rule matches every request.",
)
NOT_IN_CUSTOM = Rule(
    "LT0312",
    "Not possible with CUSTOM",
    "External authorization runs before identities are known, so CUSTOM rules cannot test them.",
)
EMPTY_MATCH = Rule(
    "LT0313", "Empty match", "A source, operation or list that is given must hold something."
)
SERVICE_ACCOUNTS_EXCLUSIVE = Rule(
    "LT0314",
    "serviceAccounts with namespaces or principals",
    "A service account names a namespace already; combine with other fields in a second source.",
)
BAD_ADDRESS = Rule("LT0315", "Bad IP block", "An IP block is an address or a CIDR range.")
BAD_PORT = Rule("LT0316", "Bad port", "A port is a number from 0 to 65535.")
BAD_PATH_TEMPLATE = Rule(
    "LT0317",
    "Bad path template",
    "{*} matches one segment and {**} any number; each stands alone between slashes, and nothing "
    "but literal segments may follow {**}.",
)
BAD_CONDITION = Rule(
    "LT0318", "Bad condition", "A condition names a known attribute and at least one value."
)
DENY_COVERS_TCP = Rule(
    "LT0319",
    "DENY reaches all TCP traffic",
    "HTTP attributes do not exist on TCP connections, and a DENY rule treats them as matching.",
    Severity.WARNING,
)
BAD_SERVICE_ACCOUNT = Rule(
    "LT0320", "Bad service account", "Write NAME or NAMESPACE/NAME, without wildcards."
)
BAD_TRUST_DOMAIN = Rule(
    "LT0321", "Bad trust domain", "A trust domain is the part of an identity before the first /."
)
BAD_MTLS_PORTS = Rule(
    "LT0330",
    "Bad port level mTLS",
    "Ports are container ports from 1 to 65535, and only with a selector that names workloads.",
)
NO_MTLS_MODE = Rule(
    "LT0331",
    "No mode given",
    "A PeerAuthentication with a selector and without mtls and portLevelMtls changes no mode.",
    Severity.WARNING,
)
KEYS_MISSING = Rule(
    "LT0340", "Token issuer unknown", "A JWT rule needs an issuer or the address of its keys."
)
KEYS_TWICE = Rule("LT0341", "Keys given twice", "Give jwks or jwksUri, not both.")
BAD_KEYS_URI = Rule("LT0342", "Bad key address", "jwksUri is an http or https URL.")
BAD_KEYS = Rule("LT0343", "Bad key set", "jwks is a JSON Web Key Set (RFC 7517).")
PRIVATE_KEYS = Rule(
    "LT0344",
    "Private key in a policy",
    "Verifying a token needs the public key only; whoever reads the policy can forge tokens.",
    Severity.WARNING,
)
BAD_JWT_TIMEOUT = Rule(
    "LT0345", "Bad timeout", "A timeout is at least 1 ms, in whole milliseconds."
)

RULES = (
    SEVERAL_ATTACHMENTS,
    BAD_TARGET,
    WILDCARD_SELECTOR,
    EMPTY_SELECTOR,
    DRY_RUN_UNSUPPORTED,
    PROVIDER_MISMATCH,
    RULES_MISSING,
    NOT_IN_CUSTOM,
    EMPTY_MATCH,
    SERVICE_ACCOUNTS_EXCLUSIVE,
    BAD_ADDRESS,
    BAD_PORT,
    BAD_PATH_TEMPLATE,
    BAD_CONDITION,
    DENY_COVERS_TCP,
    BAD_SERVICE_ACCOUNT,
    BAD_TRUST_DOMAIN,
    BAD_MTLS_PORTS,
    NO_MTLS_MODE,
    KEYS_MISSING,
    KEYS_TWICE,
    BAD_KEYS_URI,
    BAD_KEYS,
    PRIVATE_KEYS,
    BAD_JWT_TIMEOUT,
)
