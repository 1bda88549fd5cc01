"""Valid objects that are odd: mutants of those in ``fields/``, drawn from a seed.

A mutant has one to three changes: a value replaced by one that is at the edge of what a field
takes, an item given twice (exactly, or in another form of the same), a part left out, a part taken
from another object, or the whole object a second time. What validation refuses is not a mutant.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from lateen.api.resource import Resource
from lateen.api.validate import validate_all
from lateen.envoy import build
from lateen.model.discovery import DiscoveryResource
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import snapshot_of
from lateen.translate.configuration import translate
from tests.translate.test_silent_fields import (
    FOLDER,
    WATCHED,
    Place,
    Raw,
    documents,
    literals,
    parsed,
    secrets,
    valid,
)

KINDS = tuple(sorted(path.stem for path in FOLDER.glob("[A-Z]*.yaml")))
_NAMES = (
    *("", "*", "*.", ".", "a", "A.Example.COM", "a.example.com.", "*.example.com", "*.Example.com"),
    *("a..b", "*.*.com", "*com", "a.*.com", "-a", "xn--bcher-kva.example", "bücher.example"),
    *("a" * 63, "a" * 64 + ".com", ".".join(["a" * 60] * 4), "web", "web.default", "other/web"),
    *("web.default.svc", "web.default.svc.cluster.local", "x.example.com", "a:80", "a.com:80"),
    *("*.svc.cluster.local", "web.default.svc.cluster.local.", "./*", "*/*", "~/*", "default/*"),
)
_ADDRESSES = (
    *(
        "10.9.9.9",
        "10.9.9.9/32",
        "10.9.9.0/24",
        "10.9.9.77/24",
        "0.0.0.0",
        "0.0.0.0/0",
        "127.0.0.1",
    ),
    *("::1", "::", "::/0", "fd00::1", "FD00::1", "fd00:0:0::1", "fd00::1/128", "fd00::77/64"),
    *("::ffff:10.9.9.9", "fe80::1%eth0", "240.240.0.1", "255.255.255.255", "10.96.0.1", "10.0.0.1"),
    *("unix:///tmp/a", "unix://@a", "unix://a", "unix:///" + "a" * 120, "1.2.3.4:80", "010.1.1.1"),
    *("[::1]:80", "0.0.0.0:80", "127.0.0.1:0", "224.0.0.1"),
)
_PATTERNS = (
    *("(", "a{1000}", "(a{500}){3}", "(?=a)", "\\C", "(a+)+$", "[", "\\", "\\1", "\\pL", "(?i)a"),
    *(
        ".*",
        "^",
        "(?P<a>b)",
        "(?<a>b)",
        "\\8",
        "a\\0",
        "x" * 2000,
        "{x}",
        "*",
        "**",
        "/a/**",
        "/{a}",
    ),
)
_DURATIONS = (
    *("0s", "1ns", "1us", "1ms", "0.5s", "1h", "24h", "720h", "87600h", "2562047h", "-1s", "1"),
    *("0.0000000001s", "1h1m1s1ms", "315576000000s", "9999999h"),
)
_TEXTS = (
    *(" ", "a b", "a\nb", "a\0b", "a\rb", "é", "%", "%%", "%REQ(a)%", "%REQ(:path)%", "%NOPE%"),
    *("%START_TIME", "%PROTOCOL%", ":path", ":authority", "host", "Host", "x-A", "x_a", "a:b", "{"),
    *("cookie", "content-length", "connection", "transfer-encoding", "/", "//", "/a?b", "/a#b"),
    *("/%00", "a" * 300, "TLSv1_3", "ECDHE-RSA-AES128-GCM-SHA256", "AES", "P-256", "X25519", "5xx"),
    *("503", "gateway-error,503", "cancelled,a", "99", "600", "istio/a", "ISTIO_MUTUAL", "true"),
    *(
        "r1/z1",
        "r1/*",
        "*",
        "r1/z1/s1/x",
        "//",
        "spiffe://a/b",
        "a,b",
        '"',
        "GET",
        "get",
        "CONNECT",
    ),
    *("file:/a", "sds://a", "configmap://a", "kubernetes://a", "/dev/null", "/etc/none.pem"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 79, 80, 99, 100, 101, 200, 443, 599, 600, 8080, 15001, 15006, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 0.5, 99.9999, 1e-9, 100.0001, 1024, 8388608),
)
_POOLS = (_NAMES, _ADDRESSES, _PATTERNS, _DURATIONS, _TEXTS)


@dataclass(frozen=True)
class Mutant:
    """Objects that validation accepts, of which at least one was changed."""

    kind: str
    seed: int
    raw: tuple[Raw, ...]
    resources: tuple[Resource, ...]

    def __str__(self) -> str:
        return f"{self.kind} {self.seed}"


def mutant(kind: str, seed: int) -> Mutant | None:
    """The mutant of a seed; None when validation refuses it."""
    draw = random.Random(f"{kind} {seed}")
    first = copy.deepcopy(draw.choice(documents(kind)))
    raws = [first]
    if draw.random() < 0.15:
        second = copy.deepcopy(draw.choice(documents(kind)))
        second["metadata"]["name"] += "-2"
        raws.append(second)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _change(draw.choice(raws), draw)
    found = [parsed(raw) for raw in raws]
    if any(resource is None for resource in found):
        return None
    resources = tuple(resource for resource in found if resource is not None)
    if any(finding.severity.value == "error" for finding in validate_all(resources)):
        return None
    return Mutant(kind, seed, tuple(raws), resources)


@cache
def usual(kind: str) -> frozenset[tuple[str, str, str]]:
    """Type, name and version of what the proxies are sent without any mutant."""
    return frozenset(
        (part.type_url, part.name, part.version) for proxy in sent(kind, ()) for part in proxy
    )


def sent(kind: str, resources: tuple[Resource, ...]) -> Iterator[tuple[DiscoveryResource, ...]]:
    """What each watched proxy is sent when ``resources`` stand in the world of a kind."""
    mine = {resource.key for resource in resources}
    beside = (*valid("world"), *valid(kind, kind), *secrets())
    snapshot = snapshot_of([*(known for known in beside if known.key not in mine), *resources])
    for namespace, name in WATCHED:
        pod = snapshot.in_namespace("", "Pod", namespace)[name]
        configuration = translate(snapshot, scope_of_pod(snapshot, pod))
        yield tuple(
            resource
            for named in build.resources(configuration).values()
            for resource in named.values()
        )


def _change(raw: Raw, draw: random.Random) -> None:
    places = [place for place in _places(raw) if place[0] not in ("apiVersion", "kind")]
    places = [place for place in places if place[0] != "metadata" or place[-1] == "annotations"]
    if not places:
        return
    place = draw.choice(places)
    holder: Any = raw
    for part in place[:-1]:
        holder = holder[part]
    value = holder[place[-1]]
    match value:
        case list() if value:
            draw.choice((_twice, _shuffled, _shorter, _grafted))(holder, place[-1], draw)
        case dict() if value:
            draw.choice((_renamed, _without, _grafted))(holder, place[-1], draw)
        case _ if draw.random() < 0.25:
            _grafted(holder, place[-1], draw)
        case _:
            holder[place[-1]] = _other(value, draw)


def _places(value: object, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _places(item, (*place, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places(item, (*place, index))


def _twice(holder: Any, at: str | int, draw: random.Random) -> None:
    again = copy.deepcopy(draw.choice(holder[at]))
    if isinstance(again, str):
        again = _same(again, draw)
    elif draw.random() < 0.5:
        leaves = [place for place in _places([again]) if isinstance(_at([again], place), str)]
        if leaves:
            box = [again]
            place = draw.choice(leaves)
            _at(box, place[:-1])[place[-1]] = _same(_at(box, place), draw)
            again = box[0]
    holder[at] = [*holder[at], again] if draw.random() < 0.7 else [again, *holder[at]]


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value


def _same(text: str, draw: random.Random) -> str:
    """Another way to write the same, as somebody may."""
    forms = (
        *(text, text.upper(), text.title(), f"{text}.", f"{text}/32", f"{text}/128", f"*.{text}"),
        *(f"{text}.default.svc.cluster.local", text.partition(".")[0], f"{text}:80", f" {text}"),
    )
    return draw.choice(forms)


def _shuffled(holder: Any, at: str | int, draw: random.Random) -> None:
    draw.shuffle(holder[at])


def _shorter(holder: Any, at: str | int, draw: random.Random) -> None:
    del holder[at][draw.randrange(len(holder[at]))]


def _without(holder: Any, at: str | int, draw: random.Random) -> None:
    del holder[at][draw.choice(sorted(holder[at], key=str))]


def _renamed(holder: Any, at: str | int, draw: random.Random) -> None:
    old = draw.choice(sorted(holder[at], key=str))
    new = _same(str(old), draw) if draw.random() < 0.5 else _other(str(old), draw)
    value = holder[at][old] if draw.random() < 0.7 else holder[at].pop(old)
    holder[at][new] = copy.deepcopy(value)


def _grafted(holder: Any, at: str | int, draw: random.Random) -> None:
    """The value of a field of the same name, or any field's, from another object."""
    known = _grafts()
    name = at if isinstance(at, str) and at in known else draw.choice(sorted(known))
    if isinstance(holder, dict) and draw.random() < 0.3:
        at = name
    holder[at] = copy.deepcopy(draw.choice(known[name]))


@cache
def _grafts() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for kind in KINDS:
        for raw in documents(kind):
            for place in _places(raw.get("spec", {})):
                if isinstance(place[-1], str):
                    found.setdefault(place[-1], []).append(_at(raw["spec"], place))
    return found


def _other(value: object, draw: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return draw.choice(_NUMBERS)
    if draw.random() < 0.1:
        return draw.choice(literals())
    if draw.random() < 0.2:
        return _same(str(value), draw)
    return draw.choice(draw.choice(_POOLS))
