"""Rules and matches of a VirtualService that an earlier rule makes useless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from lateen.api.networking.rules import UNREACHABLE
from lateen.api.networking.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    StringMatch,
    TCPRoute,
    TLSRoute,
)
from lateen.api.report import Report


def check_unreachable(
    field: str,
    routes: Sequence[HTTPRoute | TLSRoute | TCPRoute],
    report: Report,
) -> None:
    """Warn of rules after one without matches, and of matches that were used before."""
    seen: dict[bytes, int] = {}
    catch_all = -1
    prefixes: list[_Prefix] = []
    for index, route in enumerate(routes):
        if not route.match:
            if catch_all >= 0:
                _unused(field, index, route, "only the last rule can have no matches", report)
            catch_all = index
            continue
        repeated = 0
        for number, match in enumerate(route.match):
            anonymous = match
            if isinstance(match, HTTPMatchRequest) and match.name:
                anonymous = msgspec.structs.replace(match, name="")
            key = msgspec.json.encode(anonymous, order="sorted")
            if key in seen:
                _ineffective(field, index, number, routes[seen[key]], seen[key], route, report)
                repeated += 1
                continue
            seen[key] = index
            if isinstance(match, HTTPMatchRequest) and match.uri and match.uri.prefix:
                prefixes.append(_Prefix.of(index, number, match))
        if repeated == len(route.match):
            _unused(field, index, route, "all matches used by prior rules", report)
    for position, earlier in enumerate(prefixes):
        for later in prefixes[position + 1 :]:
            if later.prefix != earlier.prefix and earlier.covers(later):
                other = routes[earlier.route]
                _ineffective(
                    field,
                    later.route,
                    later.match,
                    other,
                    earlier.route,
                    routes[later.route],
                    report,
                )


@dataclass(frozen=True, slots=True)
class _Prefix:
    route: int
    match: int
    prefix: str
    port: int
    method: str
    authority: str
    headers: dict[str, str]
    query: dict[str, str]
    without: dict[str, str]

    @staticmethod
    def of(route: int, number: int, match: HTTPMatchRequest) -> _Prefix:
        return _Prefix(
            route,
            number,
            match.uri.prefix or "" if match.uri else "",
            match.port,
            _text(match.method) or "exact:GET",
            _text(match.authority),
            {name: _text(value) for name, value in match.headers.items()},
            {name: _text(value) for name, value in match.query_params.items()},
            {name: _text(value) for name, value in match.without_headers.items()},
        )

    def covers(self, later: _Prefix) -> bool:
        """Whether every request that ``later`` matches was taken by this match."""
        return (
            later.prefix.startswith(self.prefix)
            and later.port == self.port
            and self.method.startswith(later.method)
            and self.authority.startswith(later.authority)
            and _covers_all(self.headers, later.headers)
            and _covers_all(self.query, later.query)
            and _covers_all(self.without, later.without)
        )


def _covers_all(mine: dict[str, str], later: dict[str, str]) -> bool:
    return len(mine) == len(later) and all(
        name in later and value.startswith(later[name]) for name, value in mine.items()
    )


def _text(match: StringMatch | None) -> str:
    if match is None:
        return ""
    if match.exact:
        return f"exact:{match.exact}"
    return f"prefix:{match.prefix}" if match.prefix else ""


def _name(route: object, index: int) -> str:
    name = route.name if isinstance(route, HTTPRoute) else ""
    return f'"{name}"' if name else f"#{index}"


def _unused(field: str, index: int, route: object, reason: str, report: Report) -> None:
    message = f"virtualService rule {_name(route, index)} not used ({reason})"
    report.warn(UNREACHABLE, ("spec", field, index), message)


def _ineffective(
    field: str,
    index: int,
    match: int,
    other: object,
    other_index: int,
    route: object,
    report: Report,
) -> None:
    message = (
        f"virtualService rule {_name(route, index)} match #{match} is not used "
        f"(duplicate/overlapping match in rule {_name(other, other_index)})"
    )
    report.warn(UNREACHABLE, ("spec", field, index, "match", match), message)
