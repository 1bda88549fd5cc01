"""Server-side apply: who owns which field of an object (Kubernetes ``metadata.managedFields``)."""

from __future__ import annotations

from typing import Any

from lateen.source.merge import merge_patch

Raw = dict[str, Any]
OWNERS_FIELD = "f"
"""Key under which a managed-fields entry keeps the owned leaf paths."""


class FieldConflict(Exception):
    """Another manager owns a field that is to change (HTTP 409)."""


def server_side_apply(
    current: Raw | None, applied: Raw, manager: str, *, force: bool = True
) -> Raw:
    """Merge ``applied`` into ``current``: fields this manager applied before and now leaves out go.

    Maps merge field by field; lists are atomic. A field that another manager owns too stays. With
    ``force`` a field that changes has this manager as only owner from then on; without, it raises
    `FieldConflict`.
    """
    fields = _without_nulls({k: v for k, v in applied.items() if k != "status"})
    owned = {"/".join(path): value for path, value in _leaves(_own_part(fields)) if path}
    entries: list[Raw] = list((current or {}).get("metadata", {}).get("managedFields") or [])
    mine = next((e for e in entries if e.get("manager") == manager), None)
    others = [e for e in entries if e is not mine]
    taken = _taken(current or {}, owned, others)
    if taken and not force:
        listed = "; ".join(f"{path} is owned by {who}" for path, who in sorted(taken.items()))
        raise FieldConflict(
            f"{listed}. Leave these fields out, or apply with force to take them over"
        )
    result = dict(current or {})
    keep = [*owned, *(path for e in others for path in _paths(e) if path not in taken)]
    for path in _paths(mine) if mine else []:
        if path not in owned and not any(_same_or_below(kept, path) for kept in keep):
            _remove(result, path.split("/"))
    result = dict(merge_patch(result, fields))
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": applied.get("apiVersion", ""),
        "fieldsType": "FieldsV1",
        "fieldsV1": {OWNERS_FIELD: sorted(owned)},
    }
    managed = [entry if e is mine else _without_paths(e, taken) for e in entries]
    if mine is None:
        managed.append(entry)
    result["metadata"] = {**result["metadata"], "managedFields": managed}
    return result


def _taken(current: Raw, owned: Raw, others: list[Raw]) -> dict[str, str]:
    """Paths whose value changes and that others own, with the owner's name."""
    taken: dict[str, str] = {}
    for entry in others:
        for path in _paths(entry):
            if path in owned and _value_at(current, path) != owned[path]:
                taken[path] = str(entry.get("manager"))
    return taken


def _paths(entry: Raw) -> list[str]:
    fields = entry.get("fieldsV1")
    paths = fields.get(OWNERS_FIELD) if isinstance(fields, dict) else None
    return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []


def _without_paths(entry: Raw, gone: dict[str, str]) -> Raw:
    paths = _paths(entry)
    kept = [path for path in paths if path not in gone]
    return entry if kept == paths else {**entry, "fieldsV1": {OWNERS_FIELD: kept}}


def _same_or_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _own_part(raw: Raw) -> Raw:
    metadata = {
        k: v
        for k, v in (raw.get("metadata") or {}).items()
        if k in ("labels", "annotations", "finalizers", "ownerReferences")
    }
    rest = {k: v for k, v in raw.items() if k not in ("apiVersion", "kind", "metadata")}
    return {**rest, "metadata": metadata} if metadata else rest


def _leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:  # noqa: ANN401
    if isinstance(value, dict) and value:
        return [leaf for k, v in value.items() for leaf in _leaves(v, (*path, _escaped(k)))]
    return [(path, value)]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")


def _value_at(target: Any, path: str) -> Any:  # noqa: ANN401 - any JSON value
    for step in path.split("/"):
        target = target.get(_unescaped(step)) if isinstance(target, dict) else None
    return target


def _remove(target: Raw, path: list[str]) -> None:
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
