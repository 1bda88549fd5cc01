"""A container's environment: env, envFrom, field references, service variables, ``$(NAME)``."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Protocol

from lateen.runtime.raw import Raw, annotations_of, labels_of, name_of, namespace_of, spec_of

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


_QUANTITY = re.compile(r"([0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|)")
_SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    **{letter: Fraction(1000**power) for power, letter in enumerate("kMGTP", 1)},
    **{f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTP", 1)},
}
NODE_ADDRESS = "10.244.0.1"
"""The node's own address on its bridge."""


class MissingReference(Exception):
    """A ConfigMap, Secret or key that a container needs does not exist (yet)."""


class Objects(Protocol):
    """Where ConfigMaps and Secrets are looked up."""

    def find(self, kind: str, namespace: str, name: str) -> Raw | None:
        """The object, if it exists."""


def container_environment(
    pod: Raw, container: Raw, pod_ip: str, node_name: str, objects: Objects, base: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a container, in Kubernetes' order of precedence.

    ``base`` (image defaults, service variables) < ``envFrom`` < ``env``; ``$(NAME)`` refers to
    variables before it. Raises `MissingReference` for a reference that is not optional.
    """
    namespace = namespace_of(pod)
    result = dict(base)
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix") or ""
        for key, value in _whole(source, namespace, objects).items():
            result[prefix + key] = value
    for entry in container.get("env") or []:
        if entry.get("valueFrom"):
            found = _value_from(entry["valueFrom"], pod, container, pod_ip, node_name, objects)
            if found is not None:
                result[entry["name"]] = found
        else:
            result[entry["name"]] = expand(str(entry.get("value") or ""), result)
    return result


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value; unknown names stay, ``$$`` is a dollar sign."""

    def replaced(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replaced, text)


def service_variables(services: Iterable[Raw], namespace: str) -> dict[str, str]:
    """``REVIEWS_SERVICE_HOST`` and friends of the services in a pod's namespace."""
    result: dict[str, str] = {}
    for service in services:
        spec = spec_of(service)
        address = spec.get("clusterIP")
        if namespace_of(service) != namespace or not address or address == "None":
            continue
        name = name_of(service).upper().replace("-", "_")
        ports = spec.get("ports") or []
        result[f"{name}_SERVICE_HOST"] = address
        for index, port in enumerate(ports):
            if index == 0:
                result[f"{name}_SERVICE_PORT"] = str(port["port"])
            if port.get("name"):
                suffix = port["name"].upper().replace("-", "_")
                result[f"{name}_SERVICE_PORT_{suffix}"] = str(port["port"])
    return result


def field_value(pod: Raw, path: str, pod_ip: str, node_name: str) -> str:
    """A downward-API field (``fieldRef.fieldPath``). Raises `MissingReference` for others."""
    match = _SUBSCRIPT.fullmatch(path)
    if match:
        values = labels_of(pod) if match.group(1) == "labels" else annotations_of(pod)
        return values.get(match.group(2), "")
    fields = {
        "metadata.name": name_of(pod),
        "metadata.namespace": namespace_of(pod),
        "metadata.uid": str(pod["metadata"].get("uid") or ""),
        "metadata.labels": _lines(labels_of(pod)),
        "metadata.annotations": _lines(annotations_of(pod)),
        "spec.nodeName": node_name,
        "spec.serviceAccountName": str(spec_of(pod).get("serviceAccountName") or "default"),
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": NODE_ADDRESS,
        "status.hostIPs": NODE_ADDRESS,
    }
    if path not in fields:
        raise MissingReference(f"there is no field {path!r} for fieldRef")
    return fields[path]


def secret_bytes(secret: Raw) -> dict[str, bytes]:
    """Content of a Secret: ``data`` decoded, ``stringData`` as it is."""
    content = {k: _decoded(secret, k, v) for k, v in (secret.get("data") or {}).items()}
    content.update({k: v.encode() for k, v in (secret.get("stringData") or {}).items()})
    return content


def config_bytes(config_map: Raw) -> dict[str, bytes]:
    """Content of a ConfigMap: ``data`` and ``binaryData``."""
    content = {k: str(v).encode() for k, v in (config_map.get("data") or {}).items()}
    for key, value in (config_map.get("binaryData") or {}).items():
        content[key] = _decoded(config_map, key, value)
    return content


def _decoded(raw: Raw, key: str, value: str | None) -> bytes:
    try:
        return base64.b64decode(value or "")
    except ValueError:
        where = f"{namespace_of(raw)}/{name_of(raw)}"
        raise MissingReference(f"key {key} of {raw.get('kind')} {where} is not base64") from None


def _whole(source: Raw, namespace: str, objects: Objects) -> dict[str, str]:
    for field, kind, read in (
        ("configMapRef", "ConfigMap", config_bytes),
        ("secretRef", "Secret", secret_bytes),
    ):
        reference = source.get(field)
        if reference:
            found = objects.find(kind, namespace, reference["name"])
            if found is not None:
                return {k: v.decode(errors="replace") for k, v in read(found).items()}
            if not reference.get("optional"):
                raise MissingReference(f"{kind} {namespace}/{reference['name']} does not exist")
    return {}


def _value_from(
    source: Raw, pod: Raw, container: Raw, pod_ip: str, node_name: str, objects: Objects
) -> str | None:
    namespace = namespace_of(pod)
    if source.get("fieldRef"):
        return field_value(pod, source["fieldRef"]["fieldPath"], pod_ip, node_name)
    if source.get("resourceFieldRef"):
        return resource_value(source["resourceFieldRef"], pod, container)
    for field, kind, read in (
        ("configMapKeyRef", "ConfigMap", config_bytes),
        ("secretKeyRef", "Secret", secret_bytes),
    ):
        reference = source.get(field)
        if reference:
            found = objects.find(kind, namespace, reference["name"])
            value = read(found).get(reference["key"]) if found is not None else None
            if value is not None:
                return value.decode(errors="replace")
            if reference.get("optional"):
                return None
            raise MissingReference(
                f"{kind} {namespace}/{reference['name']} has no key {reference['key']}"
                if found
                else f"{kind} {namespace}/{reference['name']} does not exist"
            )
    return None


def resource_value(reference: Raw, pod: Raw, container: Raw) -> str:
    """``resourceFieldRef``: a limit or request divided by ``divisor``, rounded up.

    A limit that is not set is what the machine has. Raises `MissingReference` for text that is no
    quantity.
    """
    wanted = reference.get("containerName")
    for candidate in spec_of(pod).get("containers") or []:
        if wanted and candidate.get("name") == wanted:
            container = candidate
    kind, _, name = str(reference.get("resource", "")).partition(".")
    given = ((container.get("resources") or {}).get(kind) or {}).get(name)
    amount = _machine(name) if given is None and kind == "limits" else _quantity(given or "0")
    return str(math.ceil(amount / (_quantity(reference.get("divisor") or "1") or 1)))


def _machine(name: str) -> Fraction:
    if name == "cpu":
        return Fraction(os.cpu_count() or 1)
    if name == "memory":
        return Fraction(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Fraction(0)


def _quantity(text: object) -> Fraction:
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise MissingReference(f"{text!r} is not a resource quantity")
    return Fraction(match[1]) * _SUFFIXES[match[2]]


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
