"""Header operations of VirtualServices, and the Host rewrite that hides among them."""

from __future__ import annotations

from lateen.api.networking.virtual_service import HeaderOperations, Headers
from lateen.ir import route as ir

_HOST = (":authority", "host")


def header_operations(headers: Headers | None) -> ir.HeaderOperations:
    """Changes to make. Pseudo-headers and Host cannot be changed this way and are left out."""
    if headers is None:
        return ir.HeaderOperations()
    request = headers.request or HeaderOperations()
    response = headers.response or HeaderOperations()
    return ir.HeaderOperations(
        request_set=_values(request.set),
        request_add=_values(request.add),
        request_remove=_names(request.remove),
        response_set=_values(response.set),
        response_add=_values(response.add),
        response_remove=_names(response.remove),
    )


def host_rewrite(headers: Headers | None) -> str:
    """The host that a set (or else an add) of ``Host`` or ``:authority`` asks for."""
    if headers is None or headers.request is None:
        return ""
    for values in (headers.request.set, headers.request.add):
        for name, value in sorted(values.items()):
            if name.lower() in _HOST:
                return value
    return ""


def joined(first: ir.HeaderOperations, second: ir.HeaderOperations) -> ir.HeaderOperations:
    """Both, ``first`` before ``second``."""
    if not second:
        return first
    if not first:
        return second
    return ir.HeaderOperations(
        request_set=first.request_set + second.request_set,
        request_add=first.request_add + second.request_add,
        request_remove=first.request_remove + second.request_remove,
        response_set=first.response_set + second.response_set,
        response_add=first.response_add + second.response_add,
        response_remove=first.response_remove + second.response_remove,
    )


def _values(values: dict[str, str]) -> tuple[ir.HeaderValue, ...]:
    return tuple(
        ir.HeaderValue(name, value)
        for name, value in sorted(values.items())
        if not _unchangeable(name)
    )


def _names(names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not _unchangeable(name))


def _unchangeable(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"
