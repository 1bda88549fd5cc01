"""Rules about reading: syntax, unknown fields, wrong types."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

SYNTAX = Rule("LT0001", "Not valid YAML", "The document cannot be parsed at all.")
NOT_AN_OBJECT = Rule(
    "LT0002",
    "Not a Kubernetes object",
    "A document must be a mapping with apiVersion, kind and metadata.name.",
)
UNKNOWN_KIND = Rule(
    "LT0003",
    "Kind without effect",
    "Lateen does not know this kind; the object is left out.",
    Severity.WARNING,
)
UNKNOWN_VERSION = Rule(
    "LT0004", "Version not served", "The kind is known, but not in this apiVersion."
)
UNKNOWN_FIELD = Rule(
    "LT0005", "Unknown field", "The kind has no such field; often a misspelling or an indentation."
)
WRONG_TYPE = Rule("LT0006", "Wrong type", "The value is of another type than the field.")
MISSING_FIELD = Rule("LT0007", "Required value missing", "The field must be set.")
BAD_ENUM = Rule("LT0008", "Unsupported value", "The field takes one of a fixed set of values.")
OUT_OF_RANGE = Rule("LT0009", "Out of range", "The number is outside of what the field takes.")
BAD_FORMAT = Rule("LT0010", "Bad format", "The text does not have the form that the field needs.")
BAD_LENGTH = Rule("LT0011", "Bad length", "The value has too few or too many characters or items.")
DUPLICATE_KEY = Rule("LT0012", "Duplicate key", "A mapping has the same key twice.")
ENUM_NUMBER = Rule(
    "LT0013",
    "Enum written as a number",
    "The number is understood, but a Kubernetes API server takes only the name.",
    Severity.WARNING,
)
BAD_NAME = Rule(
    "LT0014",
    "Bad object metadata",
    "Names are lower-case DNS names; labels and annotations follow Kubernetes' syntax.",
)
DUPLICATE_OBJECT = Rule(
    "LT0015", "Object defined twice", "The same kind, namespace and name is given more than once."
)
TOO_LARGE = Rule("LT0016", "Input too large", "Inputs are bounded to keep the reader safe.")
INERT_KIND = Rule(
    "LT0017",
    "Accepted without effect",
    "The object is understood and kept, but nothing in a mesh follows from it.",
    Severity.INFO,
)

RULES = (
    SYNTAX,
    NOT_AN_OBJECT,
    UNKNOWN_KIND,
    UNKNOWN_VERSION,
    UNKNOWN_FIELD,
    WRONG_TYPE,
    MISSING_FIELD,
    BAD_ENUM,
    OUT_OF_RANGE,
    BAD_FORMAT,
    BAD_LENGTH,
    DUPLICATE_KEY,
    ENUM_NUMBER,
    BAD_NAME,
    DUPLICATE_OBJECT,
    TOO_LARGE,
    INERT_KIND,
)
