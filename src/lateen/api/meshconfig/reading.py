"""Reads a mesh configuration: a file, the ``istio`` ConfigMap, an IstioOperator."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from lateen.api import reading as reading_rules
from lateen.api.explain import explain
from lateen.api.findings import FieldPath, Finding, Severity
from lateen.api.meshconfig import rules
from lateen.api.meshconfig.mesh_config import MeshConfig
from lateen.api.meshconfig.networks import MeshNetworks
from lateen.api.meshconfig.operator import IstioOperator
from lateen.api.meshconfig.proxy_config import ProxyConfig
from lateen.api.meshconfig.validation import (
    validate_mesh_config,
    validate_mesh_networks,
    validate_proxy_config,
)
from lateen.api.resource import ApiObject, ObjectKey, Provenance, Resource
from lateen.api.rule import Rule
from lateen.api.yamltext import MAX_TEXT, YamlError, load, split_documents

CONFIG_MAP_NAME = "istio"
"""ConfigMap of the root namespace that holds the configuration under ``mesh``."""

PROXY_CONFIG_ANNOTATION = "proxy.istio.io/config"
"""Pod annotation with a ProxyConfig that replaces the mesh's, field by field."""

_INTEGER = re.compile(r"-?\d{1,19}")

Message = TypeVar("Message", MeshConfig, MeshNetworks, ProxyConfig)


class _Reader:
    """Where findings are gathered; ``prefix`` is the path of the configuration in its object."""

    def __init__(self, provenance: Provenance, key: ObjectKey | None, prefix: FieldPath) -> None:
        self.findings: list[Finding] = []
        self._provenance = provenance
        self._key = key
        self._prefix = prefix

    def add(
        self,
        rule: Rule,
        path: FieldPath,
        message: str,
        hint: str = "",
        severity: Severity | None = None,
    ) -> None:
        self.findings.append(
            Finding(
                rule=rule.id,
                severity=severity or rule.severity,
                message=message,
                hint=hint,
                key=self._key,
                path=(*self._prefix, *path),
                provenance=self._provenance,
            )
        )

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.findings)


def parse_mesh_config(text: str, path: str = "-") -> tuple[MeshConfig, list[Finding]]:
    """The mesh configuration in a YAML text, and what is wrong with it.

    The text is a MeshConfig, a ConfigMap with it under ``mesh``, or an IstioOperator with it under
    ``spec.meshConfig``. Fields may be spelt in camelCase or snake_case. Absent fields have Istio's
    defaults. If a finding is an error the result is all defaults, and a caller that has an earlier
    configuration keeps that one.
    """
    reader = _Reader(Provenance(path, line=1, origin="file"), None, ())
    value = _load(text, reader)
    if isinstance(value, dict) and "kind" in value and "apiVersion" in value:
        value = _embedded(value, reader)
    mesh = _mesh_config(value, reader)
    return mesh, reader.findings


def parse_mesh_networks(text: str, path: str = "-") -> tuple[MeshNetworks, list[Finding]]:
    """The networks in a YAML text (``meshNetworks`` of the ConfigMap), and what is wrong."""
    reader = _Reader(Provenance(path, line=1, origin="file"), None, ())
    networks = _convert(_load(text, reader), MeshNetworks, reader)
    if not reader.has_errors:
        validate_mesh_networks(networks, reader.add)
    return (MeshNetworks() if reader.has_errors else networks), reader.findings


def parse_proxy_config(
    text: str, mesh: MeshConfig, path: str = "-"
) -> tuple[ProxyConfig, list[Finding]]:
    """A pod's ``proxy.istio.io/config`` annotation over the mesh's ``defaultConfig``.

    A field that the annotation sets replaces the mesh's whole field, except ``proxyMetadata`` and
    ``runtimeValues``, which are merged by key.
    """
    return overlay_proxy_config(text, mesh.default_config, path)


def overlay_proxy_config(
    text: str, base: ProxyConfig, path: str = "-"
) -> tuple[ProxyConfig, list[Finding]]:
    """The ProxyConfig in a YAML text over ``base``, as `parse_proxy_config` says, and what is
    wrong with it; with an error the result is ``base``."""
    return _overlay(text, base, _Reader(Provenance(path, origin="annotation"), None, ()))


def proxy_config_in(
    text: str, resource: Resource, path: FieldPath
) -> tuple[ProxyConfig, list[Finding]]:
    """The ProxyConfig in an annotation at ``path`` of ``resource``, over the defaults."""
    reader = _Reader(resource.provenance, resource.key, path)
    return _overlay(text, ProxyConfig(), reader)


def annotated(obj: ApiObject) -> tuple[str, FieldPath] | None:
    """The annotation ``proxy.istio.io/config`` of a pod, or of the pods that a workload makes,
    and where it stands; None without one."""
    spec = getattr(obj, "spec", None)
    job = getattr(spec, "job_template", None)
    template = getattr(spec if job is None else job.spec, "template", None)
    path: FieldPath = ("metadata", "annotations")
    if template is not None:
        path = (*(("spec", "jobTemplate") if job is not None else ()), "spec", "template", *path)
    elif obj.kind != "Pod":
        return None
    metadata = getattr(obj if template is None else template, "metadata", None)
    text = getattr(metadata, "annotations", {}).get(PROXY_CONFIG_ANNOTATION, "")
    return (text, (*path, PROXY_CONFIG_ANNOTATION)) if text else None


def _overlay(text: str, base: ProxyConfig, reader: _Reader) -> tuple[ProxyConfig, list[Finding]]:
    value = _load(text, reader)
    config = _convert(value, ProxyConfig, reader)
    if reader.has_errors:
        return base, reader.findings
    given = _spelt(value, ProxyConfig) if isinstance(value, dict) else set()
    changes = {name: getattr(config, name) for name in given}
    for merged in ("proxy_metadata", "runtime_values"):
        if merged in changes:
            changes[merged] = {**getattr(base, merged), **changes[merged]}
    result = msgspec.structs.replace(base, **changes)
    validate_proxy_config(result, reader.add)
    return (base if reader.has_errors else result), reader.findings


def mesh_config_of(
    resources: Iterable[Resource], root_namespace: str = "istio-system"
) -> tuple[MeshConfig, MeshNetworks, list[Finding]]:
    """The mesh's configuration among its objects, defaults if there is none.

    The ConfigMap ``istio`` of the root namespace comes before an IstioOperator's
    ``spec.meshConfig``.
    """
    maps: list[Resource] = []
    operators: list[Resource] = []
    for resource in resources:
        if _is_config_map(resource.key, root_namespace):
            maps.append(resource)
        elif isinstance(resource.object, IstioOperator):
            operators.append(resource)
    candidates = [*maps, *(each for each in operators if _operator_mesh(each) is not None)]
    if not candidates:
        return MeshConfig(), MeshNetworks(), []
    chosen = candidates[0]
    findings: list[Finding] = []
    for other in candidates[1:]:
        reader = _Reader(other.provenance, other.key, ())
        message = f"the mesh is configured by {chosen.key} at {chosen.provenance}"
        reader.add(rules.SEVERAL_CONFIGURATIONS, (), message, "Keep one of them.")
        findings += reader.findings
    mesh, networks, own = mesh_config_in(chosen)
    return mesh, networks, findings + own


def mesh_config_in(resource: Resource) -> tuple[MeshConfig, MeshNetworks, list[Finding]]:
    """The configuration that one ConfigMap or IstioOperator holds, and what is wrong with it."""
    if isinstance(resource.object, IstioOperator):
        reader = _Reader(resource.provenance, resource.key, ("spec", "meshConfig"))
        return _mesh_config(_operator_mesh(resource), reader), MeshNetworks(), reader.findings
    data: dict[str, str] = getattr(resource.object, "data", {})
    reader = _Reader(resource.provenance, resource.key, ("data", "mesh"))
    mesh = _mesh_config(_load(data.get("mesh", ""), reader), reader)
    other = _Reader(resource.provenance, resource.key, ("data", "meshNetworks"))
    networks = _convert(_load(data.get("meshNetworks", ""), other), MeshNetworks, other)
    if not other.has_errors:
        validate_mesh_networks(networks, other.add)
    if other.has_errors:
        networks = MeshNetworks()
    return mesh, networks, reader.findings + other.findings


def _is_config_map(key: ObjectKey, root_namespace: str) -> bool:
    return (
        not key.group
        and key.kind == "ConfigMap"
        and key.namespace == root_namespace
        and key.name == CONFIG_MAP_NAME
    )


def _operator_mesh(resource: Resource) -> object:
    operator = resource.object
    return operator.spec.get("meshConfig") if isinstance(operator, IstioOperator) else None


def _embedded(value: dict[object, object], reader: _Reader) -> object:
    kind = value.get("kind")
    if kind == "IstioOperator":
        spec = value.get("spec")
        return spec.get("meshConfig") if isinstance(spec, dict) else None
    data = value.get("data")
    if kind == "ConfigMap" and isinstance(data, dict):
        return _load(str(data.get("mesh") or ""), reader)
    reader.add(
        reading_rules.WRONG_TYPE,
        ("kind",),
        f"{kind} holds no mesh configuration",
        "Give a MeshConfig, the ConfigMap istio or an IstioOperator.",
    )
    return None


def _load(text: str, reader: _Reader) -> object:
    if len(text) > MAX_TEXT:
        reader.add(reading_rules.TOO_LARGE, (), f"{len(text)} characters, at most {MAX_TEXT}")
        return None
    try:
        documents = [load(document) for document in split_documents(text)]
    except YamlError as error:
        reader.add(reading_rules.SYNTAX, (), f"line {error.line}: {error.message}")
        return None
    values = [value for value in documents if value is not None]
    if len(values) > 1:
        reader.add(
            rules.SEVERAL_CONFIGURATIONS, (), f"{len(values)} documents, the first one counts"
        )
    return values[0] if values else None


def _mesh_config(value: object, reader: _Reader) -> MeshConfig:
    mesh = _convert(value, MeshConfig, reader)
    if not reader.has_errors:
        validate_mesh_config(mesh, reader.add)
    return MeshConfig() if reader.has_errors else mesh


def _convert(value: object, struct: type[Message], reader: _Reader) -> Message:
    if value is None:
        return struct()
    known = _known(value, _type_of(struct), (), reader)
    adapted, problems = explain(known, struct, lenient=True)
    for problem in problems:
        reader.add(problem.rule, problem.path, problem.message, problem.hint)
    if reader.has_errors:
        return struct()
    try:
        return msgspec.convert(adapted, struct)
    except msgspec.ValidationError as error:
        reader.add(reading_rules.WRONG_TYPE, (), str(error))
        return struct()


def _known(value: object, info: inspect.Type, path: FieldPath, reader: _Reader) -> object:
    """``value`` with fields in their usual spelling, and without those that nobody knows."""
    info = _plain(info)
    if isinstance(info, inspect.ListType) and isinstance(value, list):
        return [
            _known(item, info.item_type, (*path, index), reader) for index, item in enumerate(value)
        ]
    if isinstance(info, inspect.DictType) and isinstance(value, dict):
        return {
            name: _known(item, info.value_type, (*path, str(name)), reader)
            for name, item in value.items()
        }
    if not isinstance(info, inspect.StructType) or not isinstance(value, dict):
        return value
    fields = _spellings(info.cls)
    result: dict[str, object] = {}
    for name, item in value.items():
        field = fields.get(str(name))
        if field is None:
            near = difflib.get_close_matches(str(name), fields, n=1, cutoff=0.6)
            hint = f'Did you mean "{near[0]}"?' if near else ""
            where = (*path, str(name))
            reader.add(rules.UNKNOWN_SETTING, where, f'unknown setting "{name}"', hint)
            continue
        item = _protobuf_scalar(item, info.cls, field)
        result[field.encode_name] = _known(item, field.type, (*path, field.encode_name), reader)
    return result


def _protobuf_scalar(value: object, struct: type, field: inspect.Field) -> object:
    """``value`` as protobuf's JSON mapping reads it: enums by number, numbers as text."""
    info = _plain(field.type)
    if isinstance(info, inspect.LiteralType):
        names = _enum_names(struct, field.name)
        number = isinstance(value, int) and not isinstance(value, bool)
        return names.get(value, value) if number and isinstance(value, int) else value
    if isinstance(info, inspect.IntType) and isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return value


def _spelt(value: dict[object, object], struct: type[msgspec.Struct]) -> set[str]:
    fields = _spellings(struct)
    return {
        fields[str(name)].name
        for name, item in value.items()
        if str(name) in fields and item is not None
    }


def _plain(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        choices = [each for each in info.types if not isinstance(each, inspect.NoneType)]
        return _plain(choices[0]) if len(choices) == 1 else info
    return info


@cache
def _enum_names(struct: type, field: str) -> dict[int, str]:
    """Names of an enum by number: as declared by ``Meta``, else in the order they are written."""
    hint = get_type_hints(struct, include_extras=True)[field]
    pending: list[object] = [hint]
    while pending:
        each = pending.pop()
        for extra in getattr(each, "__metadata__", ()):
            numbers = (
                (extra.extra or {}).get("numbers") if isinstance(extra, msgspec.Meta) else None
            )
            if isinstance(numbers, dict):
                return numbers
        if get_origin(each) is Literal:
            return dict(enumerate(str(name) for name in get_args(each)))
        pending += get_args(each)
    return {}


@cache
def _type_of(struct: type[msgspec.Struct]) -> inspect.Type:
    return inspect.type_info(struct)


@cache
def _spellings(struct: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    result = {field.encode_name: field for field in info.fields}
    for field in info.fields:
        result.setdefault(field.name.rstrip("_"), field)
    return result
