"""Patches: JSON merge patch (RFC 7386) and a server-side apply with field owners."""

from __future__ import annotations

from typing import Any

Raw = dict[str, Any]
OWNERS_FIELD = "f"
"""Key under which a managed-fields entry keeps the owned leaf paths."""


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 - any JSON value
    """RFC 7386: ``null`` removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def server_side_apply(current: Raw | None, applied: Raw, manager: str) -> Raw:
    """Merge ``applied`` into ``current``: fields this manager applied before and now leaves out go.

    Maps merge field by field; lists are atomic. Field owners are kept in
    ``metadata.managedFields`` (Kubernetes structure, ``fieldsV1`` with leaf paths).
    """
    fields = {k: v for k, v in applied.items() if k != "status"}
    owned = sorted("/".join(path) for path in _leaves(_without_identity(fields)))
    before = (current or {}).get("metadata", {}).get("managedFields") or []
    mine = next((e for e in before if e.get("manager") == manager), None)
    result = dict(current or {})
    for text in (mine or {}).get("fieldsV1", {}).get(OWNERS_FIELD, []):
        if text not in owned:
            _remove(result, text.split("/"))
    result = dict(merge_patch(result, _without_nulls(fields)))
    others = [entry for entry in before if entry.get("manager") != manager]
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied.get("apiVersion", ""),
        "fieldsType": "FieldsV1",
        "fieldsV1": {OWNERS_FIELD: owned},
    }
    result["metadata"] = {**result["metadata"], "managedFields": [*others, entry]}
    return result


def _without_identity(raw: Raw) -> Raw:
    metadata = {
        k: v
        for k, v in (raw.get("metadata") or {}).items()
        if k in ("labels", "annotations", "finalizers", "ownerReferences")
    }
    rest = {k: v for k, v in raw.items() if k not in ("apiVersion", "kind", "metadata")}
    return {**rest, "metadata": metadata}


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:  # noqa: ANN401
    if isinstance(value, dict) and value:
        return [leaf for k, v in value.items() for leaf in _leaves(v, (*path, _escaped(k)))]
    return [path]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def _remove(target: Raw, path: list[str]) -> None:
    if not path or path == [""]:
        return
    name = _unescaped(path[0])
    if name not in target:
        return
    if len(path) == 1:
        target.pop(name)
        return
    child = target[name]
    if isinstance(child, dict):
        target[name] = child = dict(child)
        _remove(child, path[1:])
        if not child:
            target.pop(name)


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value
