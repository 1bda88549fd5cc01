"""The IR as YAML for people: golden files, ``lateen translate``, reviews.

Fields that have their default are left out, enums are written as their text, origins as one line
each, so that what is left reads as the decision that was made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import cache

import msgspec
import yaml

from lateen.api.findings import FieldPath, Finding
from lateen.ir.origin import Origin
from lateen.ir.proxy_config import ProxyConfiguration

_ACTIONS = {"Forward", "Redirect", "DirectResponse", "NoAction"}
_FILTERS = {"HttpConnectionManager", "TcpProxy"}


@cache
def _defaults(kind: type[msgspec.Struct]) -> tuple[tuple[str, object], ...]:
    rows: list[tuple[str, object]] = []
    for entry in msgspec.structs.fields(kind):
        if entry.default_factory is not msgspec.NODEFAULT:
            rows.append((entry.name, entry.default_factory()))
        else:
            rows.append((entry.name, entry.default))
    return tuple(rows)


def path_text(path: FieldPath) -> str:
    """``("spec", "http", 0, "route")`` as ``spec.http[0].route``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def origin_text(origin: Origin) -> str:
    """One line: object, field, and the reason."""
    if origin.key is None:
        return origin.reason
    place = f"{origin.key} {path_text(origin.path)}".rstrip()
    return f"{place}: {origin.reason}"


def plain(value: object) -> object:
    """``value`` as dicts, lists and scalars, without what has its default value."""
    if isinstance(value, Origin):
        return origin_text(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, msgspec.Struct):
        shown: dict[str, object] = {}
        name = type(value).__name__
        if name in _ACTIONS or name in _FILTERS:
            shown["kind"] = name
        for field_name, default in _defaults(type(value)):
            content = getattr(value, field_name)
            if default is msgspec.NODEFAULT or content != default:
                shown[field_name] = plain(content)
        return shown
    if isinstance(value, Mapping):
        return {str(key): plain(content) for key, content in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [plain(item) for item in value]
    return value


def _finding(finding: Finding) -> dict[str, str]:
    shown = {"rule": finding.rule, "severity": finding.severity.value}
    if finding.key is not None:
        shown["object"] = str(finding.key)
    if finding.path:
        shown["field"] = path_text(finding.path)
    shown["message"] = finding.message
    if finding.hint:
        shown["hint"] = finding.hint
    return shown


def configuration(config: ProxyConfiguration) -> dict[str, object]:
    """The whole configuration of a scope as plain data; empty sections are left out."""
    sections: dict[str, object] = {
        "listeners": [plain(item) for item in config.listeners],
        "routes": [plain(item) for item in config.routes],
        "clusters": [plain(item) for item in config.clusters],
        "load_assignments": [plain(item) for item in config.load_assignments],
        "findings": [_finding(item) for item in config.findings],
    }
    return {name: content for name, content in sections.items() if content}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        """No anchors: a reader should not have to jump."""
        return True


def to_yaml(value: object) -> str:
    """Any IR value (or the result of `configuration`) as YAML text."""
    data = configuration(value) if isinstance(value, ProxyConfiguration) else plain(value)
    text: str = yaml.dump(
        data,
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
        allow_unicode=True,
        default_flow_style=False,
    )
    return text
