"""Values of Services and ServiceEntries that do nothing are told, with their place."""

from __future__ import annotations

import pytest

from lateen.translate.unused_kinds import effect_findings
from tests.model.meshes import istio, objects, service

DNS = "{hosts: [x.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]%s}"
DYNAMIC = "{hosts: ['*.x.example'], resolution: DYNAMIC_DNS, ports: [{number: 80, name: h, %s}]}"
STATIC = "{hosts: [x.example], resolution: STATIC, ports: [{number: 80, name: tcp}], %s}"


def annotated(text: str, annotation: str) -> str:
    return text.replace("metadata:\n", f"metadata:\n  annotations: {{{annotation}}}\n")


def places(text: str) -> list[str]:
    """Paths of what is said of the one object in ``text``."""
    (resource,) = objects(text)
    return [".".join(map(str, finding.path)) for finding in effect_findings(resource)]


UDP_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {name: x, namespace: default}
spec:
  parentRefs: [{name: front}]
  rules: [{backendRefs: [{name: dns, port: 53}]}]
"""
NETWORK_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: x, namespace: default}
spec: {podSelector: {}}
"""
RACE = "istio.io/connect-strategy"
DISTRIBUTION = "networking.istio.io/traffic-distribution"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (istio("WorkloadEntry", "w", "{address: 10.0.0.1, network: far}"), ["spec.network"]),
        (
            istio("ServiceEntry", "e", STATIC % "endpoints: [{address: 192.0.2.1, network: far}]"),
            ["spec.endpoints.0.network"],
        ),
        (
            istio("ServiceEntry", "e", STATIC % "addresses: [192.0.2.1, '2001:db8::1']"),
            ["spec.addresses.1"],
        ),
        (istio("ServiceEntry", "e", DYNAMIC % "targetPort: 8080"), ["spec.ports.0.targetPort"]),
        (istio("ServiceEntry", "e", DYNAMIC % "targetPort: 80"), []),
        (istio("ServiceEntry", "e", DYNAMIC % "protocol: HTTP"), []),
        (service("web", more="sessionAffinity: ClientIP"), ["spec.sessionAffinity"]),
        (service("web", more="sessionAffinity: None"), []),
        (
            service("web", ports="[{name: a, port: 80, protocol: SCTP}]"),
            ["spec.ports.0.protocol"],
        ),
        (service("web", more="ipFamilies: [IPv4, IPv6]"), ["spec.ipFamilies"]),
        (
            service("web", more="clusterIP: 10.96.0.1\n  clusterIPs: [10.96.0.1, 'fd00::1']"),
            ["spec.clusterIPs.1"],
        ),
        (service("web", more="type: NodePort\n  externalTrafficPolicy: Local"), []),
        (
            service("web", more="loadBalancerSourceRanges: [10.0.0.0/8]"),
            ["spec.loadBalancerSourceRanges"],
        ),
        (
            service("web", annotations=f"{{{DISTRIBUTION}: PreferFar}}"),
            [f"metadata.annotations.{DISTRIBUTION}"],
        ),
        (service("web", annotations=f"{{{DISTRIBUTION}: PreferClose}}"), []),
        (
            annotated(istio("ServiceEntry", "e", DNS % ""), f"{RACE}: SLOWEST"),
            [f"metadata.annotations.{RACE}"],
        ),
        (annotated(istio("ServiceEntry", "e", DNS % ""), f"{RACE}: RACE_FIRST_TCP_CONNECT"), []),
        (
            annotated(
                istio("ServiceEntry", "e", STATIC % "exportTo: ['*']"),
                f"{RACE}: RACE_FIRST_TCP_CONNECT",
            ),
            [f"metadata.annotations.{RACE}"],
        ),
        (
            annotated(
                istio(
                    "ServiceEntry",
                    "e",
                    DNS % ", endpoints: [{address: a.example}, {address: b.example}]",
                ),
                f"{RACE}: RACE_FIRST_TCP_CONNECT",
            ),
            [f"metadata.annotations.{RACE}"],
        ),
    ],
)
def test_what_does_nothing_is_told(text: str, told: list[str]) -> None:
    assert places(text) == told


def test_kinds_that_nothing_acts_on_are_told() -> None:
    assert places(UDP_ROUTE) == [""]
    assert places(NETWORK_POLICY) == [""]
