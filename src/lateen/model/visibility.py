"""Who may use an object: ``exportTo`` of Service, ServiceEntry, VirtualService, DestinationRule."""

from __future__ import annotations

from collections.abc import Iterable

PUBLIC = frozenset({"*"})
NOBODY = frozenset({"~"})


def export_to(
    values: Iterable[str] | None, namespace: str, default: Iterable[str] | None = None
) -> frozenset[str]:
    """The namespaces an object of ``namespace`` is exported to: names, ``*`` (all), ``~`` (none).

    Absent values take ``default`` (the mesh's), absent that everybody. ``.`` becomes the own
    namespace; ``*`` wins over everything listed with it.
    """
    given = tuple(values or ()) or tuple(default or ()) or ("*",)
    if "*" in given:
        return PUBLIC
    if "~" in given:
        return NOBODY
    return frozenset(namespace if value == "." else value for value in given)


def is_visible(exported: frozenset[str], namespace: str) -> bool:
    """Whether ``namespace`` is among the namespaces that ``exported`` names."""
    return "*" in exported or namespace in exported


def is_private(exported: frozenset[str], namespace: str) -> bool:
    """Whether an object of ``namespace`` is exported to that namespace alone."""
    return exported == {namespace}


def is_public(exported: frozenset[str]) -> bool:
    """Whether everybody sees it."""
    return "*" in exported
