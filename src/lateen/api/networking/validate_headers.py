"""Header names and values of VirtualService."""

from __future__ import annotations

import re

from lateen.api.findings import FieldPath
from lateen.api.networking.rules import HEADER
from lateen.api.networking.virtual_service import Headers
from lateen.api.report import Report

# RFC 9110 tokens, and the comma that Istio lets pass.
_NAME = re.compile(r"[-!#$%&'*+,.^_`|~A-Za-z0-9]+")
_PSEUDO = frozenset((":method", ":scheme", ":authority", ":path", ":status"))
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_CLAIM = "@request.auth.claims"
# One Envoy command operator: %NAME%, %NAME(args)%, %NAME(["a","b"])%. A quote in plain arguments
# ends them as it ends a string of an array.
_OPERATOR = re.compile(
    r"""%[^%(]*
        (?:\(
            (?:\ *\[\ *"|\ *[^\ \[])           # an array's first string, or plain arguments
            (?:\\.|[^\\")])*
            (?:"\ *,\ *"(?:\\.|[^\\")])*)*    # further strings
            (?:\)|"\ *\]\ *\))
        \ *)?
    %""",
    re.VERBOSE | re.DOTALL,
)


def header_name_problem(name: str) -> str:
    """A token of RFC 9110: letters, digits and ``!#$%&'*+-.^_`|~``."""
    if not name:
        return "header name cannot be empty"
    return "" if _NAME.fullmatch(name) else f"header name {name} is not a valid header name"


def cors_header_name_problem(name: str) -> str:
    """As `header_name_problem`, or ``*``."""
    return "" if name == "*" else header_name_problem(name)


def match_name_problem(name: str) -> str:
    """A header, a pseudo header, or a JWT claim such as ``@request.auth.claims.groups``."""
    return "" if is_claim(name) or name in _PSEUDO else header_name_problem(name)


def is_claim(name: str) -> bool:
    """Whether the name of a header match stands for a JWT claim."""
    if not name.lower().startswith(_CLAIM):
        return False
    rest = name[len(_CLAIM) :]
    if rest.startswith("."):
        return all(rest[1:].split("."))
    return re.fullmatch(r"(?:\[[^\[\]]+\])+", rest) is not None


def header_value_problem(value: str) -> str:
    """Printable; ``%`` doubled or part of a complete Envoy operator such as ``%HOSTNAME%``."""
    if not _VALUE.fullmatch(value):
        return f"header value configuration {value!r} is invalid"
    position = value.find("%")
    while position >= 0:
        if value.startswith("%%", position):
            end = position + 2
        else:
            match = _OPERATOR.match(value, position)
            if match is None:
                return f'header value "{value}": invalid header configuration. Un-escaped %'
            end = match.end()
        position = value.find("%", end)
    return ""


def is_authority(name: str) -> bool:
    """Whether a header operation means the authority."""
    return name.lower() in (":authority", "host")


def _request_problem(name: str) -> str:
    if not name:
        return "header name cannot be empty"
    if name.startswith(":") and not is_authority(name):
        return f'invalid header "{name}": header cannot have ":" prefix'
    return ""


def _other_problem(name: str) -> str:
    if not name:
        return "header name cannot be empty"
    if name.lower() == "host":
        return f'invalid header "{name}": cannot set Host header'
    if name.startswith(":"):
        return f'invalid header "{name}": header cannot have ":" prefix'
    return ""


def check_headers(headers: Headers | None, path: FieldPath, report: Report) -> None:
    """All operations on request and response headers."""
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        name_problem = _request_problem if side == "request" else _other_problem
        for kind, values in (("add", operations.add), ("set", operations.set)):
            for name, value in values.items():
                problem = name_problem(name) or header_value_problem(value)
                if problem:
                    hint = "Write a literal % as %%." if "Un-escaped" in problem else ""
                    report.error(HEADER, (*path, side, kind, name), problem, hint)
        for index, name in enumerate(operations.remove):
            problem = _other_problem(name)
            if problem:
                report.error(HEADER, (*path, side, "remove", index), problem)
