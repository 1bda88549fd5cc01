"""Rules about Kubernetes kinds."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

BAD_ADDRESS = Rule("LT0201", "Not an IP address", "The field takes an IP address.")
BAD_PORT = Rule("LT0202", "Bad port", "Ports are 1 to 65535; several ports need distinct names.")
SHARED_ADDRESS = Rule(
    "LT0203", "Two services with one ClusterIP", "An address can belong to one service only."
)
BAD_SERVICE = Rule("LT0204", "Inconsistent service", "The service's fields contradict each other.")
SELECTOR_MISMATCH = Rule(
    "LT0205",
    "Selector does not match the template",
    "A workload must select the pods that it makes.",
)
BAD_POD = Rule("LT0206", "Inconsistent pod", "Containers, volumes or probes do not fit together.")
WITHOUT_EFFECT = Rule(
    "LT0207",
    "Field without effect",
    "The field is accepted, but nothing follows from it in the local runtime.",
    Severity.INFO,
)
BAD_DATA = Rule(
    "LT0208", "Bad data", "Keys and values of a ConfigMap or Secret must be well-formed."
)
BAD_INGRESS = Rule("LT0209", "Inconsistent Ingress", "Paths and backends must be complete.")
BAD_LABELS = Rule("LT0210", "Bad labels", "Label keys and values follow Kubernetes' syntax.")
BAD_FILE_MODE = Rule(
    "LT0211",
    "Not a file mode",
    "defaultMode and mode of a volume's files are 0 to 0777; a number without a leading zero is "
    "decimal.",
)
ODD_FILE_MODE = Rule(
    "LT0212",
    "File mode in decimal",
    "The number is in range, but looks like an octal mode that lost its leading zero.",
    Severity.WARNING,
)

RULES = (
    BAD_ADDRESS,
    BAD_PORT,
    SHARED_ADDRESS,
    BAD_SERVICE,
    SELECTOR_MISMATCH,
    BAD_POD,
    WITHOUT_EFFECT,
    BAD_DATA,
    BAD_INGRESS,
    BAD_LABELS,
    BAD_FILE_MODE,
    ODD_FILE_MODE,
)
