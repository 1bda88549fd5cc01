"""No field is silent: changing it changes a proxy's configuration, or its author is told.

``fields/KIND.yaml`` has valid objects that together set every field of a kind. Each of their values
is taken out, and where that is not allowed or changes nothing, replaced by others. What counts is
what four proxies are started with and sent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from lateen.api.core.pod import Pod
from lateen.api.findings import Finding
from lateen.api.meshconfig import MeshConfig, mesh_config_in
from lateen.api.parse import parse_object
from lateen.api.resource import Resource
from lateen.api.validate import validate_all
from lateen.ir import dump
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import snapshot_of
from lateen.serve.bootstraps import bootstrap_for
from lateen.serve.proxy_settings import settings_for
from lateen.translate import coverage, mesh_settings
from lateen.translate.configuration import translate
from lateen.translate.unused_kinds import effect_findings
from tests.certificates import usable_secret
from tests.translate.test_coverage import messages

FOLDER = Path(__file__).parent / "fields"
KINDS = sorted(path.stem for path in FOLDER.glob("[A-Z]*.yaml"))
WATCHED = (
    ("default", "client"),
    ("default", "web-1"),
    ("other", "visitor"),
    ("istio-system", "front"),
)

_NAMES = "a protocol stands beside it, so it only tells ports and servers apart"
_SHARES = "shares must add up to 100, so none can change alone"
_LEGACY = "Istio does not look at it either"
_DISTRIBUTE = "DestinationRule.subsets.trafficPolicy.loadBalancer.localityLbSetting.distribute"
REASONS = {
    f"{_DISTRIBUTE}.to.r1/z1/*": _SHARES,
    f"{_DISTRIBUTE}.to.r2/z2/*": _SHARES,
    "EndpointSlice.ports.protocol": "the port of the service says it",
    "EndpointSlice.ports.appProtocol": "the port of the service says it",
    "EndpointSlice.endpoints.conditions.serving": _LEGACY,
    "EndpointSlice.endpoints.hints.forZones.name": _LEGACY,
    "EndpointSlice.endpoints.deprecatedTopology.a": _LEGACY,
    "Service.type": "the runtime publishes ports by it",
    "Gateway.servers.name": _NAMES,
    "Gateway.servers.port.name": _NAMES,
    "ServiceEntry.ports.name": _NAMES,
    "Sidecar.egress.port.name": _NAMES,
    "Sidecar.ingress.port.name": _NAMES,
    "Sidecar.ingress.port.protocol HTTPS": "TLS and HTTPS are the same to a proxy",
}
"""Values, by kind and names below ``spec``, that rightly change nothing without a word."""
_REFUSED = "validation refuses it"
_ABOUT = "which object is meant, kind and name say"
NOT_TRIED = {
    "FaultDelay.exponential_delay": _REFUSED,
    "FaultAbort.http2_error": _REFUSED,
    "HTTPRoute.websocket_upgrade": "validate says that it has been removed",
    "Port.target_port": _REFUSED,
    "SidecarPort.target_port": _REFUSED,
    "ObjectReference.api_version": _ABOUT,
    "ObjectReference.uid": _ABOUT,
    "ObjectReference.resource_version": _ABOUT,
    "ObjectReference.field_path": _ABOUT,
}
"""Fields that no object here sets."""

Raw = dict[str, Any]
Place = tuple[str | int, ...]


def everything(name: str) -> list[Raw]:
    """The objects of a file."""
    return [raw for raw in yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text()) if raw]


def documents(kind: str) -> list[Raw]:
    """Those that are tried; objects of other kinds are what they go with."""
    return [raw for raw in everything(kind) if raw["kind"] == kind]


def parsed(raw: Raw) -> Resource | None:
    """The object, or None when it is not valid."""
    if raw["kind"] == "MeshConfig":
        data = {"mesh": yaml.safe_dump(raw["spec"])}
        about = {"name": "istio", "namespace": "istio-system"}
        raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}
    found = parse_object(raw)
    if not isinstance(found, Resource):
        return None
    errors = [f for f in validate_all([found]) if f.severity.value == "error"]
    return None if errors else found


@cache
def valid(name: str, without: str = "") -> tuple[Resource, ...]:
    """The objects of a file, but those of the kind ``without``."""
    found = [parsed(raw) for raw in everything(name) if raw["kind"] != without]
    assert None not in found
    return tuple(resource for resource in found if resource is not None)


@cache
def secrets() -> tuple[Resource, ...]:
    """The credentials that objects of the files name: without them TLS settings mean nothing."""
    names = ("some", "other", "one", "two", "c")
    found = [
        parsed(usable_secret(name, namespace))
        for name in names
        for namespace in ("default", "istio-system")
    ]
    return tuple(resource for resource in found if resource is not None)


def configured(kind: str, resource: Resource) -> object:
    """What the watched proxies run when ``resource`` is put into the world, without the reasons."""
    beside = (*valid("world"), *valid(kind, kind), *secrets())
    snapshot = snapshot_of([*(known for known in beside if known.key != resource.key), resource])
    found: list[object] = []
    for namespace, name in WATCHED:
        pod = snapshot.in_namespace("", "Pod", namespace)[name]
        assert isinstance(pod.object, Pod)
        found.append(settings_for(snapshot, pod.object))
        found.append(bootstrap_for(snapshot, pod.object, ("10.0.0.99", 15012)))
        sent = translate(snapshot, scope_of_pod(snapshot, pod))
        found.append(without_reasons(dump.configuration(sent)))
    return found


def without_reasons(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_reasons(v) for k, v in value.items() if k not in ("origins", "findings")}
    if isinstance(value, list):
        return [without_reasons(item) for item in value]
    return value


def leaves(value: object, place: Place = ()) -> Iterator[Place]:
    """Where the scalars below ``value`` are."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, (*place, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place


def variants(raw: Raw, place: Place) -> Iterator[Raw]:
    """``raw`` without the value at ``place``, and with others there."""
    holder: Any = raw
    for part in place[:-1]:
        holder = holder[part]
    for candidate in (_NOTHING, *others(holder[place[-1]])):
        changed = copy.deepcopy(raw)
        holder = changed
        for part in place[:-1]:
            holder = holder[part]
        if candidate is _NOTHING:
            del holder[place[-1]]
        else:
            holder[place[-1]] = candidate
        yield changed


_NOTHING = object()
_TEXTS = ("v2", "web", "api", "10.9.9.9", "7s", "tcp", "HTTP", "TCP", "TLS")


def others(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, 80, 443]
    return [text for text in (f"{value}x", f"x{value}", *_TEXTS, *literals()) if text != value]


@cache
def literals() -> tuple[str, ...]:
    """Every word that some field may have."""
    found: set[str] = set()
    for kind in KINDS:
        resource = parsed(documents(kind)[0])
        assert resource is not None
        root = MeshConfig if kind == "MeshConfig" else type(resource.object)
        for message in messages(msgspec.inspect.type_info(root)):
            info = msgspec.inspect.type_info(message)
            assert isinstance(info, msgspec.inspect.StructType)
            for field in info.fields:
                if isinstance(field.type, msgspec.inspect.LiteralType):
                    found.update(str(word) for word in field.type.values if word)
    return tuple(sorted(found))


def expected_silence(raw: Raw, place: Place) -> bool:
    """Whether `REASONS` or the reference (`lateen.translate.fields.Fields.quiet`) has the value."""
    names = [part for part in place if isinstance(part, str) and part != "spec"]
    value: Any = raw
    for part in place:
        value = value[part]
    name = ".".join([raw["kind"], *names])
    return name in REASONS or f"{name} {value}" in REASONS or not _quiet().isdisjoint(names)


@cache
def _quiet() -> frozenset[str]:
    return frozenset(
        field.encode_name
        for message, known in coverage.FIELDS.items()
        for field in msgspec.structs.fields(message)
        if field.name in dict(known.quiet)
    )


def told(findings: list[Finding], place: Place) -> bool:
    """Whether something is said of the value, of what it is in, or of what is in it."""
    paths = [
        ("spec", *finding.path[2:]) if finding.path[:2] == ("data", "mesh") else finding.path
        for finding in findings
    ]
    return any(path[: len(place)] == place or place[: len(path)] == path for path in paths)


def silent(kind: str, raw: Raw) -> Iterator[str]:
    """The values of an object that change nothing and of which nothing is said."""
    resource = parsed(raw)
    assert resource is not None, f"{kind} {raw['metadata']['name']} is not valid"
    before = configured(kind, resource)
    said = [*validate_all([resource]), *effect_findings(resource)]
    for place in leaves({k: v for k, v in raw.items() if k not in _HEAD}):
        if expected_silence(raw, place) or told(said, place):
            continue
        # Where every other value is refused, that is told.
        allowed = (found for each in variants(raw, place) if (found := parsed(each)) is not None)
        results = (configured(kind, found) != before for found in allowed)
        first = next(results, True)
        if not first and not any(results):
            yield dump.path_text(place)


_HEAD = ("apiVersion", "kind", "metadata")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_each_value_changes_a_proxy_or_is_told(kind: str) -> None:
    found = {raw["metadata"]["name"]: list(silent(kind, raw)) for raw in documents(kind)}
    assert {name: places for name, places in found.items() if places} == {}


def set_fields(message: object, raw: object) -> Iterator[tuple[type, str]]:
    """Message and Python name of every field that ``raw`` sets."""
    if isinstance(message, msgspec.Struct) and isinstance(raw, dict):
        for field in msgspec.structs.fields(message):
            if field.encode_name in raw:
                yield type(message), field.name
                yield from set_fields(getattr(message, field.name), raw[field.encode_name])
    elif isinstance(message, list) and isinstance(raw, list):
        for item, each in zip(message, raw, strict=True):
            yield from set_fields(item, each)
    elif isinstance(message, dict) and isinstance(raw, dict):
        for name, item in message.items():
            yield from set_fields(item, raw.get(name, raw.get(str(name))))


def fields_to_try(message: type) -> frozenset[str]:
    """All fields; of the mesh's settings those with an effect, as the table tells of the others
    (``test_mesh_settings.py``)."""
    settings = mesh_settings.FIELDS.get(message)
    if settings is not None:
        return settings.effective
    return frozenset(field.name for field in msgspec.structs.fields(message))


def test_the_objects_set_every_field() -> None:
    found: set[tuple[type, str]] = set()
    top: set[type] = set()
    for raw in (raw for kind in KINDS for raw in documents(kind)):
        resource = parsed(raw)
        assert resource is not None
        top |= {type(resource.object), type(resource.object.metadata)}
        if raw["kind"] == "MeshConfig":
            found |= set(set_fields(mesh_config_in(resource)[0], raw["spec"]))
        else:
            found |= set(set_fields(resource.object, raw))
    missing = {
        f"{message.__name__}.{name}"
        for message in {message for message, _ in found} - top
        for name in fields_to_try(message)
        if (message, name) not in found
    }
    assert missing == set(NOT_TRIED)


_DEFAULT = "the second is what the first stands for"
SAME = {
    ("LEAST_CONN", "LEAST_REQUEST", "UNSPECIFIED"): "LEAST_CONN is the old name of the default",
    ("DEFAULT", "DO_NOT_UPGRADE"): _DEFAULT,
    ("DEFAULT", "IPTABLES"): "where nothing is captured, Istio does not look at it",
    ("TLSV1_2", "TLS_AUTO"): _DEFAULT,
    ("TLSV1_3", "TLS_AUTO"): _DEFAULT,
    ("REGISTRY_ONLY", "VIRTUAL_SERVICE_ONLY"): "Istio blocks unknown destinations for both",
    ("BASE", "DEFAULT"): _DEFAULT,
    ("PUBLIC", "VISIBILITY_UNSPECIFIED"): _DEFAULT,
    ("SANITIZE_SET", "UNDEFINED"): _DEFAULT,
    ("PERMISSIVE", "UNSET"): _DEFAULT,
    ("FORWARD", "UNSPECIFIED"): _DEFAULT,
    ("PreferClose", "PreferSameZone"): "PreferClose is the old name",
}
"""Words that rightly mean the same."""
_WORDS = {"traffic_distribution": ("PreferClose", "PreferSameZone", "PreferSameNode")}
"""Words of fields whose type is plain text."""


def words(info: msgspec.inspect.Type) -> tuple[str, ...]:
    if isinstance(info, msgspec.inspect.LiteralType):
        return tuple(word for word in info.values if isinstance(word, str))
    if isinstance(info, msgspec.inspect.UnionType):
        return tuple(word for option in info.types for word in words(option))
    return ()


def choices(message: object, raw: object, place: Place = ()) -> Iterator[tuple[Place, Place]]:
    """The places in ``raw`` where one of several words stands, each with all of them."""
    if isinstance(message, msgspec.Struct) and isinstance(raw, dict):
        info = msgspec.inspect.type_info(type(message))
        assert isinstance(info, msgspec.inspect.StructType)
        for field in info.fields:
            if field.encode_name in raw:
                here = (*place, field.encode_name)
                if found := words(field.type) or _WORDS.get(field.name, ()):
                    yield here, found
                yield from choices(getattr(message, field.name), raw[field.encode_name], here)
    elif isinstance(message, list) and isinstance(raw, list):
        for index, (item, each) in enumerate(zip(message, raw, strict=True)):
            yield from choices(item, each, (*place, index))


def indistinct(kind: str, raw: Raw) -> Iterator[str]:
    """Words of an object that have the same effect, where nothing is said of them."""
    resource = parsed(raw)
    assert resource is not None
    found = choices(resource.object, raw)
    if kind == "MeshConfig":
        found = choices(mesh_config_in(resource)[0], raw["spec"], ("spec",))
    for place, options in found:
        if expected_silence(raw, place):
            continue
        effects: dict[bytes, list[str]] = {}
        for word in options:
            changed = copy.deepcopy(raw)
            holder: Any = changed
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = word
            other = parsed(changed)
            if other is None or told([*validate_all([other]), *effect_findings(other)], place):
                continue
            effect = msgspec.json.encode(configured(kind, other))
            effects.setdefault(effect, []).append(str(word))
        for same in effects.values():
            if len(same) > 1 and tuple(sorted(same)) not in SAME:
                yield f"{dump.path_text(place)}: {', '.join(same)}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_each_word_means_something_else(kind: str) -> None:
    found = {raw["metadata"]["name"]: list(indistinct(kind, raw)) for raw in documents(kind)}
    assert {name: places for name, places in found.items() if places} == {}
