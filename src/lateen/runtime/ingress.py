"""Gateways on one machine: Istio's standard ingress gateway on demand."""

from __future__ import annotations

from collections.abc import Iterable

from lateen.runtime.cache import ObjectCache
from lateen.runtime.host_ports import INGRESS_LABELS, ROOT_NAMESPACE
from lateen.runtime.raw import Raw, full_name, labels_of, namespace_of, selects, spec_of
from lateen.source.client import AsyncClient

STANDARD_PORTS = {15021: 15021, 80: 8080, 443: 8443}
"""Service port to container port of Istio's own ingress gateway."""


def wants_ingress_gateway(gateway: Raw) -> bool:
    """Whether a Gateway's selector means Istio's standard ingress gateway."""
    return spec_of(gateway).get("selector") == INGRESS_LABELS


def has_ingress_gateway(workloads: Iterable[Raw]) -> bool:
    """Whether some workload's pods carry the labels of the ingress gateway."""
    return any(
        selects(
            INGRESS_LABELS,
            ((spec_of(w).get("template") or {}).get("metadata") or {}).get("labels") or {},
        )
        for w in workloads
    )


def ingress_gateway_manifests(gateways: Iterable[Raw]) -> list[Raw]:
    """Namespace, account, Service and Deployment of Istio's ingress gateway.

    Server ports beyond the standard ones are added to the Service as they are.
    """
    ports = dict(STANDARD_PORTS)
    for gateway in gateways:
        for server in spec_of(gateway).get("servers") or []:
            number = int((server.get("port") or {}).get("number") or 0)
            if number and number not in ports and number not in ports.values():
                ports[number] = number
    labels = {"app": "istio-ingressgateway", **INGRESS_LABELS}
    metadata = {"name": "istio-ingressgateway", "namespace": ROOT_NAMESPACE, "labels": labels}
    names = {15021: "status-port", 80: "http2", 443: "https"}
    service_ports = [
        {"name": names.get(port, f"tcp-{port}"), "port": port, "targetPort": target}
        for port, target in ports.items()
    ]
    template = {
        "metadata": {
            "labels": {**labels, "sidecar.istio.io/inject": "true"},
            "annotations": {"inject.istio.io/templates": "gateway"},
        },
        "spec": {
            "serviceAccountName": "istio-ingressgateway-service-account",
            "containers": [{"name": "istio-proxy", "image": "auto"}],
        },
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {
                "name": "istio-ingressgateway-service-account",
                "namespace": ROOT_NAMESPACE,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "LoadBalancer", "selector": labels, "ports": service_ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]


async def ensure_ingress_gateway(client: AsyncClient, cache: ObjectCache) -> bool:
    """Make the standard ingress gateway if a Gateway means it and nothing else is it."""
    gateways = [g for g in cache.all("Gateway") if wants_ingress_gateway(g)]
    workloads = [
        *cache.all("Deployment"),
        *cache.all("DaemonSet"),
        *cache.all("StatefulSet"),
    ]
    pods = [pod for pod in cache.all("Pod") if selects(INGRESS_LABELS, labels_of(pod))]
    ours = cache.find("Deployment", ROOT_NAMESPACE, "istio-ingressgateway")
    made_here = ours is not None and _made_here(ours)
    if not gateways or ((has_ingress_gateway(workloads) or pods) and not made_here):
        return False
    documents = [
        {"raw": raw, "path": "", "line": 0, "document": 0}
        for raw in ingress_gateway_manifests(gateways)
    ]
    body = {"documents": documents, "manager": MANAGER}
    results = [line async for line in client.lines("POST", "/lateen/v1/apply", body)]
    return any(result.get("result") == "created" for result in results)


MANAGER = "lateen-ingress"


def _made_here(raw: Raw) -> bool:
    entries = raw["metadata"].get("managedFields") or []
    return any(entry.get("manager") == MANAGER for entry in entries)


def gateway_services(services: Iterable[Raw]) -> list[str]:
    """Names of services in the root namespace that are published."""
    return [full_name(s) for s in services if namespace_of(s) == ROOT_NAMESPACE]


def in_front_of(pods: Iterable[Raw], services: Iterable[Raw]) -> frozenset[str]:
    """Names of the services that select one of ``pods`` (``NAMESPACE/NAME``)."""
    known = [(namespace_of(pod), labels_of(pod)) for pod in pods]
    return frozenset(
        full_name(service)
        for service in services
        if (selector := spec_of(service).get("selector"))
        and any(
            space == namespace_of(service) and selects(selector, labels) for space, labels in known
        )
    )
