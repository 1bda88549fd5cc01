"""Gateways on one machine: Istio's standard ingress gateway on demand, and ports of the host."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lateen.runtime.cache import ObjectCache
from lateen.runtime.node.errors import NodeError
from lateen.runtime.node.node import Node, Published
from lateen.runtime.raw import Raw, full_name, labels_of, namespace_of, selects, spec_of
from lateen.source.client import AsyncClient

logger = logging.getLogger(__name__)

ROOT_NAMESPACE = "istio-system"
INGRESS_LABELS = {"istio": "ingressgateway"}
STANDARD_PORTS = {15021: 15021, 80: 8080, 443: 8443}
"""Service port to container port of Istio's own ingress gateway."""
UNPUBLISHED_PORTS = frozenset({15021, 15012, 15017})
HOST_PORTS = {80: 8080, 443: 8443}
"""Where privileged service ports are published, since an ordinary user cannot bind them."""


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


@dataclass(slots=True)
class Publisher:
    """Ports of LoadBalancer services on ports of the host."""

    node: Node
    wanted: Mapping[int, int]
    """Service port to host port, as the user asked with ``--publish``."""
    address: str = "127.0.0.1"
    published: dict[tuple[str, int], tuple[int, Published]] = field(default_factory=dict)
    _targets: dict[tuple[str, int], str] = field(default_factory=dict)
    problems: dict[tuple[str, int], str] = field(default_factory=dict)

    def table(self) -> list[Raw]:
        """What is published: service, port, host port."""
        return [
            {"service": service, "port": port, "host": self.address, "hostPort": host_port}
            for (service, port), (host_port, _) in sorted(self.published.items())
        ]

    async def update(self, services: Iterable[Raw]) -> None:
        """Publish what is not yet, stop what is gone. Problems are kept in ``problems``."""
        present: dict[tuple[str, int], str] = {}
        for service in services:
            spec = spec_of(service)
            if spec.get("type") != "LoadBalancer" or not spec.get("clusterIP"):
                continue
            for port in spec.get("ports") or []:
                number = int(port["port"])
                if number not in UNPUBLISHED_PORTS and port.get("protocol", "TCP") == "TCP":
                    present[full_name(service), number] = str(spec["clusterIP"])
        # A service that was deleted and made again may have another address.
        for key in [k for k in self.published if present.get(k) != self._targets.get(k)]:
            await self.published.pop(key)[1].close()
        for key in [key for key in self.problems if key not in present]:
            self.problems.pop(key)
        for key, address in present.items():
            if key not in self.published:
                await self._publish(key, address)

    async def _publish(self, key: tuple[str, int], cluster_ip: str) -> None:
        service, port = key
        host_port = self.wanted.get(port, HOST_PORTS.get(port, port))
        taken_by = next((k for k, (p, _) in self.published.items() if p == host_port), None)
        if taken_by is not None:
            self._problem(key, f"host port {host_port} is published for {taken_by[0]} already")
            return
        try:
            published = await self.node.publish(host_port, cluster_ip, port, self.address)
        except (NodeError, OSError) as error:
            self._problem(key, str(error))
            return
        self.problems.pop(key, None)
        self.published[key] = (host_port, published)
        self._targets[key] = cluster_ip
        logger.info("%s port %d is published on %s:%d", service, port, self.address, host_port)

    def _problem(self, key: tuple[str, int], text: str) -> None:
        message = (
            f"port {key[1]} of service {key[0]} is not published: {text}; "
            f"choose another with --publish {key[1]}:HOSTPORT"
        )
        if self.problems.get(key) != message:
            logger.error(message)
        self.problems[key] = message


def gateway_services(services: Iterable[Raw]) -> list[str]:
    """Names of services in the root namespace that are published."""
    return [full_name(s) for s in services if namespace_of(s) == ROOT_NAMESPACE]
