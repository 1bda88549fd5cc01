"""Golden cases: what they are written in, and how one becomes a configuration.

A case is ``cases/TOPIC/NAME.in.yaml``: a first document with a ``proxy`` (and what to show), then
objects as users write them. Beside it stands ``NAME.ir.yaml``, the readable dump of the result.

    description: one sentence
    include: [samples/bookinfo/bookinfo.yaml]     # more objects, from the repository
    proxy: {workload: productpage-v1}             # a Deployment or Pod, by name
    proxy: {type: router, namespace: istio-system, labels: {istio: ingressgateway}}
    mesh: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
    secrets: [web]                                # Secrets with a certificate, in istio-system
    show: {routes: ["9080"], hosts: ["reviews*"], clusters: ["*reviews*"], findings: false}

``show`` names the parts the case is about (``hosts``: virtual hosts); without it all are shown.

Each Deployment stands for one ready pod per replica, with a sidecar unless its template's label
``sidecar.istio.io/inject`` is "false".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from lateen.api.parse import parse_object
from lateen.api.resource import Provenance, Resource
from lateen.ir import dump
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.model.proxy import Proxy, ProxyType, Scope
from lateen.model.scope import scope_of, scope_of_pod
from lateen.model.service import Locality, WorkloadIdentity
from lateen.model.snapshot import Snapshot, snapshot_of
from lateen.translate.configuration import translate
from tests.certificates import usable_secret

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"
_SECTIONS = ("listeners", "routes", "clusters", "load_assignments")


@dataclass(frozen=True)
class Case:
    """One case, read."""

    path: Path
    settings: dict[str, Any]
    resources: tuple[Resource, ...]

    @property
    def name(self) -> str:
        """``TOPIC/NAME``."""
        return name_of(self.path)

    @property
    def expected(self) -> Path:
        """The golden file."""
        return self.path.with_name(self.path.name.replace(".in.yaml", ".ir.yaml"))


def paths() -> list[Path]:
    """Every case."""
    return sorted(CASES.glob("*/*.in.yaml"))


def name_of(path: Path) -> str:
    """``TOPIC/NAME`` of the case in a file."""
    return str(path.relative_to(CASES)).removesuffix(".in.yaml")


def read(path: Path) -> Case:
    """The case in a file; what is not valid in it fails the test."""
    settings, *objects = [d for d in yaml.safe_load_all(path.read_text()) if d is not None]
    unknown = set(settings) - {"description", "include", "proxy", "mesh", "secrets", "show"}
    assert not unknown, f"{path}: unknown settings {sorted(unknown)}"
    documents = [
        (document, str(include))
        for include in settings.get("include", [])
        for document in yaml.safe_load_all((ROOT / include).read_text())
        if document is not None
    ]
    documents += [(document, path.name) for document in objects]
    documents += [(usable_secret(name), "secrets") for name in settings.get("secrets", [])]
    mesh = settings.get("mesh")
    if mesh is not None:
        documents.append((_mesh_object(mesh), "mesh"))
    resources = list(_resources(documents))
    return Case(path, settings, tuple(resources))


def snapshot(case: Case) -> Snapshot:
    """All objects of the case."""
    return snapshot_of(case.resources)


def scope(case: Case, objects: Snapshot) -> Scope:
    """The proxy that the case looks at."""
    facts = case.settings["proxy"]
    if "workload" in facts:
        wanted = facts["workload"]
        pod = next(
            resource
            for resource in case.resources
            if resource.key.kind == "Pod" and resource.key.name.startswith(wanted)
        )
        return scope_of_pod(objects, pod)
    namespace = facts.get("namespace", "default")
    proxy = Proxy(
        id="test",
        type=ProxyType(facts.get("type", "sidecar")),
        name=facts.get("name", "proxy"),
        namespace=namespace,
        identity=WorkloadIdentity(namespace=namespace, workload="proxy"),
        labels=facts.get("labels", {}),
        addresses=tuple(facts.get("addresses", ["10.244.1.1"])),
        locality=Locality(*facts.get("locality", "").split("/")),
        node=facts.get("node", ""),
        metadata=facts.get("metadata", {}),
    )
    return scope_of(objects, proxy)


def configuration(case: Case) -> ProxyConfiguration:
    """The configuration that the case leads to."""
    objects = snapshot(case)
    return translate(objects, scope(case, objects))


def shown(case: Case, config: ProxyConfiguration) -> str:
    """The golden text: the parts that the case is about."""
    everything = dump.configuration(config)
    show = case.settings.get("show")
    if show is not None:
        for section in _SECTIONS:
            patterns = show.get(section, [])
            kept = [
                part
                for part in everything.get(section, [])  # type: ignore[attr-defined]
                if any(fnmatchcase(_name(part), pattern) for pattern in patterns)
            ]
            if section == "routes" and "hosts" in show:
                kept = [_with_hosts(part, show["hosts"]) for part in kept]
            everything[section] = kept
            if not kept:
                del everything[section]
        if not show.get("findings", True):
            everything.pop("findings", None)
    return dump.to_yaml(everything) if everything else "{}\n"


def _name(part: dict[str, Any]) -> str:
    return str(part.get("name", part.get("cluster", "")))


def _with_hosts(configuration: dict[str, Any], patterns: list[str]) -> dict[str, Any]:
    hosts = [
        host
        for host in configuration.get("virtual_hosts", [])
        if any(fnmatchcase(host["name"], pattern) for pattern in patterns)
    ]
    return configuration | {"virtual_hosts": hosts}


def _mesh_object(mesh: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": yaml.safe_dump(mesh)},
    }


def _resources(documents: list[tuple[Any, str]]) -> Iterator[Resource]:
    addresses = iter(f"10.244.0.{number}" for number in range(10, 250))
    service_addresses = iter(f"10.96.0.{number}" for number in range(20, 250))
    for number, (document, source) in enumerate(documents):
        if document["kind"] == "Service":
            _give_address(document["spec"], service_addresses)
        yield _resource(document, Provenance(path=source, document=number))
        if document["kind"] in ("Deployment", "StatefulSet"):
            for index in range(document["spec"].get("replicas", 1)):
                yield _resource(_pod(document, index, next(addresses)), Provenance())


def _give_address(spec: dict[str, Any], addresses: Iterator[str]) -> None:
    if spec.get("type") != "ExternalName":
        spec.setdefault("clusterIP", next(addresses))


def _resource(document: Any, provenance: Provenance) -> Resource:
    parsed = parse_object(document, provenance)
    assert isinstance(parsed, Resource), f"{provenance}: {parsed}"
    return parsed


def _pod(owner: dict[str, Any], index: int, address: str) -> dict[str, Any]:
    template = owner["spec"]["template"]
    name = owner["metadata"]["name"]
    stateful = owner["kind"] == "StatefulSet"
    labels = dict(template["metadata"]["labels"])
    if labels.get("sidecar.istio.io/inject") != "false":
        labels["security.istio.io/tlsMode"] = "istio"
    spec = dict(template["spec"])
    if stateful:
        spec |= {"hostname": f"{name}-{index}", "subdomain": owner["spec"]["serviceName"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{index}",
            "namespace": owner["metadata"].get("namespace", "default"),
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "StatefulSet" if stateful else "ReplicaSet",
                    "name": name,
                    "uid": name,
                    "controller": True,
                }
            ],
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
