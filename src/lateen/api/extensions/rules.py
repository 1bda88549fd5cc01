"""Rules about extensions.istio.io."""

from __future__ import annotations

from lateen.api.rule import Rule

ONE_FILTER = Rule(
    "LT0501", "Not one filter", "A TrafficExtension holds exactly one of wasm and lua."
)
BAD_MODULE_URL = Rule(
    "LT0502", "Bad module URL", "A Wasm module comes from oci://, http(s):// or file://."
)
CHECKSUM_MISMATCH = Rule(
    "LT0503", "Checksums disagree", "The digest in the URL and the field sha256 must be equal."
)
DUPLICATE_VARIABLE = Rule(
    "LT0504", "Variable defined twice", "Each environment variable of the VM is set once."
)
HOST_VARIABLE_WITH_VALUE = Rule(
    "LT0505",
    "Host variable with a value",
    "With valueFrom HOST the value is the proxy's own; only INLINE takes a value.",
)
BAD_MATCH_PORT = Rule("LT0506", "Bad port", "A port is from 1 to 65535, and named once.")
NO_LUA_CODE = Rule(
    "LT0507", "No Lua code", "The code defines envoy_on_request or envoy_on_response."
)

RULES = (
    ONE_FILTER,
    BAD_MODULE_URL,
    CHECKSUM_MISMATCH,
    DUPLICATE_VARIABLE,
    HOST_VARIABLE_WITH_VALUE,
    BAD_MATCH_PORT,
    NO_LUA_CODE,
)
