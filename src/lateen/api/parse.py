"""Text or plain values to typed resources, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import msgspec

from lateen.api import reading
from lateen.api.explain import Problem, explain
from lateen.api.findings import FieldPath, Finding
from lateen.api.kinds import KindInfo, all_kinds, kind_of, split_api_version
from lateen.api.resource import ApiObject, ObjectKey, Provenance, Resource
from lateen.api.rule import Rule
from lateen.api.syntax import GENERAL_HINT
from lateen.api.yamltext import MAX_TEXT, Document, YamlError, load, split_documents

DEFAULT_NAMESPACE = "default"

# Groups whose kinds a mesh has no use for and that people keep beside its configuration.
_FOREIGN_GROUPS = (
    ".k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "policy",
    "cert-manager.io",
    "monitoring.coreos.com",
    "kustomize.config.k8s.io",
    "argoproj.io",
    "helm.toolkit.fluxcd.io",
    "install.istio.io",
)


@dataclass(slots=True)
class ParseResult:
    """What a text holds: the resources that can be used and what is wrong with the rest."""

    resources: list[Resource] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def parse_documents(
    text: str,
    path: str = "-",
    origin: str = "file",
    default_namespace: str = DEFAULT_NAMESPACE,
) -> ParseResult:
    """Read all objects of a YAML or JSON text; never raises, a bad document hides no other.

    Namespaced objects without a namespace get ``default_namespace``.
    """
    result = ParseResult()
    if len(text) > MAX_TEXT:
        message = f"{len(text)} characters; at most {MAX_TEXT} are read from one input"
        result.findings.append(
            _finding(reading.TOO_LARGE, Provenance(path, origin=origin), message)
        )
        return result
    for index, document in enumerate(split_documents(text)):
        provenance = Provenance(path, index, document.start, origin)
        try:
            values = _values(document)
        except YamlError as error:
            rule = reading.DUPLICATE_KEY if error.duplicate else reading.SYNTAX
            hint = "Keep one of the two." if error.duplicate else error.hint or GENERAL_HINT
            finding = _finding(rule, provenance, error.message, hint)
            result.findings.append(replace(finding, line=error.line, column=error.column))
            continue
        for raw in values:
            for item, where in _unpacked(raw, provenance):
                _read(item, where, default_namespace, result)
    return result


def _values(document: Document) -> list[object]:
    try:
        return [load(document)]
    except YamlError:
        body = document.text.lstrip("-. \t\r\n")
        if not body.startswith("{"):
            raise
        try:
            return list(_json_stream(body))
        except (ValueError, RecursionError):
            pass
        raise


def _json_stream(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        value, end = decoder.raw_decode(text, position)
        if "\\u" in text[position:end]:  # half of a surrogate pair is no text: UnicodeEncodeError
            json.dumps(value, ensure_ascii=False).encode()
        yield value
        position = end
        while position < len(text) and text[position].isspace():
            position += 1


def _unpacked(raw: object, provenance: Provenance) -> Iterator[tuple[object, Provenance]]:
    if isinstance(raw, dict):
        kind = raw.get("kind")
        items = raw.get("items")
        if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
            for index, item in enumerate(items):
                if isinstance(item, dict) and "kind" not in item and kind != "List":
                    item = {"apiVersion": raw.get("apiVersion"), "kind": kind[:-4], **item}
                yield item, replace(provenance, item=index)
            return
    yield raw, provenance


def _read(raw: object, provenance: Provenance, namespace: str, result: ParseResult) -> None:
    if raw is None:
        return
    outcome = parse_object(raw, provenance, namespace, result.findings)
    if isinstance(outcome, Resource):
        result.resources.append(outcome)
    else:
        result.findings += outcome


@cache
def _known(api_version: str, kind: str) -> tuple[KindInfo, str] | None:
    info = kind_of(api_version, kind)
    return None if info is None else (info, info.group)


def parse_object(
    raw: object,
    provenance: Provenance | None = None,
    default_namespace: str = DEFAULT_NAMESPACE,
    remarks: list[Finding] | None = None,
) -> Resource | list[Finding]:
    """One object from plain values, or the findings that keep it out.

    Findings that do not keep it out (warnings) are appended to ``remarks`` if given. ``raw`` is not
    changed.
    """
    where = provenance or Provenance()
    if not isinstance(raw, dict):
        hint = "A manifest begins with apiVersion:, kind: and metadata:."
        return [_finding(reading.NOT_AN_OBJECT, where, "a document must be a mapping", hint)]
    api_version, kind = raw.get("apiVersion"), raw.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str) or not api_version or not kind:
        missing = "apiVersion" if not isinstance(api_version, str) or not api_version else "kind"
        hint = "Every object starts with apiVersion, kind and metadata."
        return [_finding(reading.NOT_AN_OBJECT, where, f"{missing} is missing", hint)]
    known = _known(api_version, kind)
    if known is None:
        return _foreign(api_version, kind, raw, where)
    info, group = known
    metadata = raw.get("metadata")
    if metadata is None and info.default_name:
        metadata = {}
        raw = {**raw, "metadata": metadata}
    if isinstance(metadata, dict):
        if info.namespaced and not metadata.get("namespace"):
            raw = {**raw, "metadata": {**metadata, "namespace": default_namespace}}
        elif not info.namespaced and "namespace" in metadata:
            rest = {name: value for name, value in metadata.items() if name != "namespace"}
            raw = {**raw, "metadata": rest}
        if info.default_name and not metadata.get("name"):
            raw = {**raw, "metadata": {**raw["metadata"], "name": info.default_name}}
    try:
        obj: ApiObject = msgspec.convert(raw, info.type)
    except msgspec.ValidationError as error:
        key = _raw_key(info, raw, default_namespace)
        value, problems = explain(raw, info.type, info.lenient)
        findings = [_from_problem(problem, key, where) for problem in problems]
        if any(problem.is_error for problem in problems):
            return findings
        try:
            obj = msgspec.convert(value, info.type)
        except msgspec.ValidationError:
            return [*findings, _finding(reading.WRONG_TYPE, where, str(error), key=key)]
        if remarks is not None:
            remarks += findings
    meta = obj.metadata
    if not meta.name:
        key = ObjectKey(group, kind, meta.namespace, meta.generate_name)
        hint = "Give the object a name."
        path = ("metadata", "name")
        return [_finding(reading.MISSING_FIELD, where, "Required value", hint, key, path)]
    return Resource(ObjectKey(group, kind, meta.namespace, meta.name), obj, where)


def to_raw(resource: Resource) -> dict[str, object]:
    """The object as plain values, as it can be written to YAML or JSON."""
    raw: dict[str, object] = msgspec.to_builtins(resource.object)
    return raw


def _foreign(
    api_version: str, kind: str, raw: dict[str, object], where: Provenance
) -> list[Finding]:
    group, _ = split_api_version(api_version)
    metadata = raw.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    key = ObjectKey(group, kind, "", name)
    served = all_kinds().get((group, kind))
    if served is not None:
        hint = f"Use one of: {', '.join(served.versions)}."
        message = f"{kind} is not served as {api_version}"
        return [_finding(reading.UNKNOWN_VERSION, where, message, hint, key, ("apiVersion",))]
    same_group = sorted(known for in_group, known in all_kinds() if in_group == group)
    elsewhere = sorted({known for known, kind_name in all_kinds() if kind_name == kind})
    if elsewhere:
        hint = f"{kind} belongs to {' or '.join(g or 'the core group (v1)' for g in elsewhere)}."
    elif same_group and group.endswith("istio.io"):
        hint = f"{group} has {', '.join(same_group)}."
    elif not group or group.endswith(_FOREIGN_GROUPS):
        hint = "The object is left out; nothing in a mesh follows from it."
    else:
        hint = "The object is left out. Check the spelling of apiVersion and kind."
    message = f"{api_version} {kind} is not a kind that a mesh uses"
    return [_finding(reading.UNKNOWN_KIND, where, message, hint, key, ("kind",))]


def _raw_key(info: KindInfo, raw: dict[str, object], default_namespace: str) -> ObjectKey:
    metadata = raw.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {}
    namespace = str(meta.get("namespace") or default_namespace) if info.namespaced else ""
    return ObjectKey(info.group, info.kind, namespace, str(meta.get("name") or ""))


def _from_problem(problem: Problem, key: ObjectKey, where: Provenance) -> Finding:
    return _finding(problem.rule, where, problem.message, problem.hint, key, problem.path)


def _finding(
    rule: Rule,
    where: Provenance,
    message: str,
    hint: str = "",
    key: ObjectKey | None = None,
    path: FieldPath = (),
) -> Finding:
    return Finding(rule.id, rule.severity, message, hint, key, path, where)
