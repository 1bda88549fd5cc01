"""Patches: JSON merge patch (RFC 7386), strategic merge patch, JSON patch (RFC 6902)."""

from __future__ import annotations

import copy
from typing import Any

Raw = dict[str, Any]

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "hostAliases": ("ip",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey",),
    "ports": ("containerPort", "port"),
}
"""Lists of built-in kinds that are merged by a key (``patchMergeKey`` of the Kubernetes API)."""


class PatchError(ValueError):
    """A patch that cannot be applied; the message says why."""


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


def strategic_merge(target: Any, patch: Any, name: str = "") -> Any:  # noqa: ANN401 - any JSON value
    """Kubernetes' strategic merge patch, as ``kubectl edit``, ``set`` and ``label`` send it.

    Like a merge patch, but lists of things with names merge by name; ``$patch: delete`` and
    ``$patch: replace`` are understood. Lists of plain values replace.
    """
    if isinstance(patch, dict):
        return _strategic_object(target, patch)
    keys = _LIST_KEYS.get(name)
    if isinstance(patch, list) and isinstance(target, list) and keys:
        key = next((k for k in keys if all(isinstance(i, dict) and k in i for i in target)), None)
        if key is not None:
            return _strategic_list(target, patch, key)
    if isinstance(patch, list):
        return [item for item in patch if not _directive(item)]
    return patch


def _strategic_object(target: Any, patch: Raw) -> Raw:  # noqa: ANN401 - any JSON value
    if patch.get("$patch") == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if name.startswith(("$setElementOrder/", "$patch", "$retainKeys")):
            continue
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            gone = value if isinstance(value, list) else []
            result[field] = [item for item in result.get(field) or [] if item not in gone]
        elif value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
            result.pop(name, None)
        else:
            result[name] = strategic_merge(result.get(name), value, name)
    return result


def _strategic_list(target: list[Raw], patch: list[Any], key: str) -> list[Raw]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not _directive(item)]
    result = list(target)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(f"every item of this list needs {key!r} to be merged")
        place = next((i for i, old in enumerate(result) if old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if place is not None:
                result.pop(place)
        elif place is None:
            result.append(item)
        else:
            result[place] = strategic_merge(result[place], item)
    return result


def _directive(item: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(item, dict) and "$patch" in item


def json_patch(target: Any, operations: Any) -> Any:  # noqa: ANN401 - any JSON value
    """RFC 6902. Raises `PatchError` when an operation does not fit, also a failing ``test``."""
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    document = {"": copy.deepcopy(target)}
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError("an operation is an object with op and path")
        _operate(document, operation)
    return document[""]


def _operate(document: Raw, operation: Raw) -> None:
    verb, path = operation.get("op"), operation.get("path")
    if verb == "add":
        _add(document, path, _value(operation))
    elif verb == "remove":
        _remove(document, path)
    elif verb == "replace":
        _remove(document, path)
        _add(document, path, _value(operation))
    elif verb == "test":
        if _find(document, path) != _value(operation):
            raise PatchError(f"test of {path} failed")
    elif verb == "move":
        _add(document, path, _remove(document, operation.get("from")))
    elif verb == "copy":
        _add(document, path, copy.deepcopy(_find(document, operation.get("from"))))
    else:
        raise PatchError(f"unknown operation {verb!r}")


def _value(operation: Raw) -> Any:  # noqa: ANN401 - any JSON value
    if "value" not in operation:
        raise PatchError(f"operation {operation.get('op')} of {operation.get('path')} has no value")
    return operation["value"]


def _steps(path: Any) -> list[str]:  # noqa: ANN401 - whatever the patch says
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise PatchError(f"{path!r} is not a JSON pointer")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")]


def _index(step: str, length: int, path: Any) -> int:  # noqa: ANN401 - whatever the patch says
    if not (step.isascii() and step.isdigit()) or int(step) > length:
        raise PatchError(f"{path} does not exist")
    return int(step)


def _find(document: Any, path: Any) -> Any:  # noqa: ANN401 - any JSON value
    for step in _steps(path):
        document = _child(document, step, path)
    return document


def _child(parent: Any, step: str, path: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(parent, dict) and step in parent:
        return parent[step]
    if isinstance(parent, list):
        return parent[_index(step, len(parent) - 1, path)]
    raise PatchError(f"{path} does not exist")


def _parent(document: Raw, path: Any) -> tuple[Any, str]:  # noqa: ANN401 - any JSON value
    steps = _steps(path)
    parent: Any = document
    for step in steps[:-1]:
        parent = _child(parent, step, path)
    return parent, steps[-1]


def _add(document: Raw, path: Any, value: Any) -> None:  # noqa: ANN401 - any JSON value
    parent, step = _parent(document, path)
    if isinstance(parent, list):
        index = len(parent) if step == "-" else _index(step, len(parent), path)
        parent.insert(index, value)
    elif isinstance(parent, dict):
        parent[step] = value
    else:
        raise PatchError(f"{path} does not exist")


def _remove(document: Raw, path: Any) -> Any:  # noqa: ANN401 - any JSON value
    parent, step = _parent(document, path)
    found = _child(parent, step, path)
    if isinstance(parent, list):
        parent.pop(int(step))
    else:
        parent.pop(step)
    return found
