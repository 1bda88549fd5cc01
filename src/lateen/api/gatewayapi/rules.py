"""Rules about gateway.networking.k8s.io, from the CEL rules of its CRDs."""

from __future__ import annotations

from lateen.api.rule import Rule

PARENT_REPEATED = Rule(
    "LT0601",
    "Same parent twice",
    "References to one parent must differ in sectionName or port, and all must set the same ones.",
)
BACKEND_PORT = Rule("LT0602", "Port missing", "A reference to a Service needs its port.")
REPEATED_NAME = Rule("LT0603", "Name used twice", "Entries of this list have distinct names.")
FILTER_SETTINGS = Rule(
    "LT0604",
    "Filter and settings disagree",
    "A filter has the settings that its type names, and no others.",
)
FILTER_COMBINATION = Rule(
    "LT0605",
    "Filters do not go together",
    "Most filters stand once per rule; a redirect excludes rewriting and backends.",
)
PATH_MODIFIER = Rule(
    "LT0606",
    "Bad path modifier",
    "Give the value that the type names; a new prefix needs one PathPrefix match to replace.",
)
BAD_PATH = Rule(
    "LT0607",
    "Bad path",
    "Exact and prefix paths start with / and are normalised: no //, /./, /../, %2f or #.",
)
BAD_REGEX = Rule("LT0608", "Bad regular expression", "Envoy takes RE2 syntax, without look-around.")
BAD_METHOD_MATCH = Rule(
    "LT0609", "Bad gRPC method", "A gRPC match names a service, a method or both."
)
TOO_MANY_MATCHES = Rule(
    "LT0610", "Too many matches", "All rules of a route have at most 128 matches together."
)
BAD_TIMEOUT = Rule(
    "LT0611", "Bad timeout", "One attempt cannot take longer than the whole request."
)
BAD_SESSION = Rule(
    "LT0612",
    "Bad session persistence",
    "A permanent cookie needs absoluteTimeout; cookie settings are for cookies.",
)
LISTENER_TLS = Rule(
    "LT0613",
    "Listener and TLS disagree",
    "HTTP, TCP and UDP have no TLS; HTTPS terminates it; TLS says its mode.",
)
LISTENER_HOSTNAME = Rule(
    "LT0614", "Host name without meaning", "TCP and UDP carry no host name to select by."
)
LISTENER_CONFLICT = Rule(
    "LT0615", "Listeners conflict", "Port, protocol and host name together tell listeners apart."
)
CERTIFICATE_MISSING = Rule(
    "LT0616", "Certificate missing", "Terminating TLS needs certificateRefs or options."
)
BAD_GATEWAY_ADDRESS = Rule(
    "LT0617", "Bad address", "An address has the form of its type and is given once."
)
SELECTOR_MISSING = Rule(
    "LT0618", "Namespace selector missing", "from: Selector selects namespaces by labels."
)
BAD_SELECTOR = Rule(
    "LT0619", "Bad label selector", "In and NotIn need values, Exists and DoesNotExist none."
)
ROUTE_HOSTNAMES = Rule(
    "LT0620",
    "Bad host names",
    "A TLSRoute selects by server names, which are never IP addresses.",
)
TRUST_ANCHORS = Rule(
    "LT0621",
    "Trust anchors unclear",
    "Give caCertificateRefs or wellKnownCACertificates: exactly one of them.",
)
SUBJECT_ALT_NAME = Rule(
    "LT0622", "Bad subject alternative name", "Give the field that the type names, only that one."
)
TARGET_REPEATED = Rule(
    "LT0623", "Same target twice", "References to one target must differ in sectionName."
)
BAD_RATE = Rule(
    "LT0624", "Bad interval", "A budget's interval is 1s to 1h; a rate's is above 0 up to 1h."
)
MIRROR_SHARE = Rule("LT0625", "Share given twice", "Use percent or fraction, not both.")
ORIGIN_WILDCARD = Rule(
    "LT0626", "Wildcard beside values", "* stands for all values, so it stands alone."
)
EXTERNAL_AUTH = Rule(
    "LT0627", "Protocol and settings disagree", "protocol GRPC has grpc, protocol HTTP has http."
)
POOL_INCOMPLETE = Rule(
    "LT0628", "Pool incomplete", "An InferencePool needs its port and its endpoint picker."
)

RULES = (
    PARENT_REPEATED,
    BACKEND_PORT,
    REPEATED_NAME,
    FILTER_SETTINGS,
    FILTER_COMBINATION,
    PATH_MODIFIER,
    BAD_PATH,
    BAD_REGEX,
    BAD_METHOD_MATCH,
    TOO_MANY_MATCHES,
    BAD_TIMEOUT,
    BAD_SESSION,
    LISTENER_TLS,
    LISTENER_HOSTNAME,
    LISTENER_CONFLICT,
    CERTIFICATE_MISSING,
    BAD_GATEWAY_ADDRESS,
    SELECTOR_MISSING,
    BAD_SELECTOR,
    ROUTE_HOSTNAMES,
    TRUST_ANCHORS,
    SUBJECT_ALT_NAME,
    TARGET_REPEATED,
    BAD_RATE,
    MIRROR_SHARE,
    ORIGIN_WILDCARD,
    EXTERNAL_AUTH,
    POOL_INCOMPLETE,
)
