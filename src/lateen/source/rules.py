"""Rules about taking objects in: what can be wrong beyond the object itself."""

from __future__ import annotations

from lateen.api.findings import Severity
from lateen.api.rule import Rule

UNREADABLE_FILE = Rule(
    "LT0801",
    "File cannot be read",
    "A file of a folder cannot be read or stored: it is not UTF-8, the user may not read it, it is "
    "a link that leads nowhere or no file. Other files are read; a watched folder keeps what was "
    "known of it.",
)
ADDRESS_REFUSED = Rule(
    "LT0802",
    "Address or port not available",
    "A Service asks for an address or node port that another one has or that is out of range.",
)

BEING_DELETED = Rule(
    "LT0804",
    "Object is being deleted",
    "The object was deleted and is still ending; what is applied to it goes with it.",
    Severity.WARNING,
)
FOLDER_NAMED_AS_FILE = Rule(
    "LT0805",
    "Folder with the name of a file",
    "What has the name of a manifest is a folder, so that it is not read as one.",
    Severity.WARNING,
)

RULES = (UNREADABLE_FILE, ADDRESS_REFUSED, BEING_DELETED, FOLDER_NAMED_AS_FILE)
