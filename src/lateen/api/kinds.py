"""The kinds Lateen knows: name, versions, scope and typed struct of each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from lateen.api.resource import ApiObject

_GROUPS = (
    "lateen.api.core",
    "lateen.api.networking",
    "lateen.api.security",
    "lateen.api.telemetry",
    "lateen.api.extensions",
    "lateen.api.gatewayapi",
    "lateen.api.meshconfig",
)


@dataclass(frozen=True, slots=True)
class KindInfo:
    """One kind of an API group.

    ``group`` is empty for the Kubernetes core group. ``versions`` are those accepted when read,
    ``storage_version`` the one objects are kept and shown in. ``lenient`` kinds take an explicit
    ``null`` also in lists and maps, as Kubernetes does for built-in kinds but not for custom ones.
    For a field of any kind it is as if the field were absent.
    ``inert`` kinds are read and kept but have no effect in a mesh. ``default_name`` is the name of
    an object that is given without one, where the kind allows that.
    """

    group: str
    kind: str
    plural: str
    type: type[ApiObject]
    versions: tuple[str, ...]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    storage_version: str = ""
    namespaced: bool = True
    status_subresource: bool = True
    lenient: bool = False
    inert: bool = False
    default_name: str = ""

    def __post_init__(self) -> None:
        if not self.singular:
            object.__setattr__(self, "singular", self.kind.lower())
        if not self.storage_version:
            object.__setattr__(self, "storage_version", self.versions[0])

    @property
    def api_version(self) -> str:
        """``apiVersion`` of the storage version, for instance ``networking.istio.io/v1``."""
        if not self.group:
            return self.storage_version
        return f"{self.group}/{self.storage_version}"


def _declared() -> Iterator[KindInfo]:
    for name in _GROUPS:
        yield from getattr(importlib.import_module(name), "KINDS", ())


@cache
def all_kinds() -> Mapping[tuple[str, str], KindInfo]:
    """Every known kind by ``(group, kind)``. Raises ``ValueError`` on a double declaration."""
    kinds: dict[tuple[str, str], KindInfo] = {}
    for info in _declared():
        if (info.group, info.kind) in kinds:
            raise ValueError(f"kind {info.group}/{info.kind} is declared twice")
        kinds[info.group, info.kind] = info
    return MappingProxyType(kinds)


KINDS: Mapping[tuple[str, str], KindInfo]


def __getattr__(name: str) -> Mapping[tuple[str, str], KindInfo]:
    """``KINDS`` is collected on first use, so that groups may import this module."""
    if name == "KINDS":
        return all_kinds()
    raise AttributeError(name)


def split_api_version(api_version: str) -> tuple[str, str]:
    """``"apps/v1"`` → ``("apps", "v1")``, ``"v1"`` → ``("", "v1")``."""
    group, _, version = api_version.rpartition("/")
    return group, version


@cache
def kind_of(api_version: str, kind: str) -> KindInfo | None:
    """The kind that an object's ``apiVersion`` and ``kind`` name, if that version is served."""
    group, version = split_api_version(api_version)
    info = all_kinds().get((group, kind))
    return info if info is not None and version in info.versions else None


@cache
def kind_by_plural(group: str, plural: str) -> KindInfo | None:
    """The kind behind a URL such as ``/apis/GROUP/VERSION/.../PLURAL``."""
    for info in all_kinds().values():
        if info.group == group and info.plural == plural:
            return info
    return None


@cache
def kinds_by_name(name: str) -> tuple[KindInfo, ...]:
    """Kinds that a person means by ``name``: kind, plural, singular or short name, any case.

    ``vs.networking.istio.io`` narrows to one group.
    """
    word, _, group = name.lower().partition(".")
    return tuple(
        info
        for info in all_kinds().values()
        if (not group or info.group == group)
        and word in {info.kind.lower(), info.plural, info.singular, *info.short_names}
    )
