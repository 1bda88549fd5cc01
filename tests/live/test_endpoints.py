"""Where services lead: own addresses, nodes, names that are looked up."""

from __future__ import annotations

import pytest

from tests.live.mesh import Mesh

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

HIDDEN = """
apiVersion: v1
kind: Service
metadata:
  name: hidden
  namespace: default
  annotations: {networking.istio.io/exportTo: "~"}
spec: {clusterIP: None, selector: {app: details}, ports: [{name: http, port: 9080}]}
---
apiVersion: v1
kind: Service
metadata:
  name: rewritten
  namespace: default
  annotations: {networking.istio.io/exportTo: "~"}
spec: {clusterIP: None, selector: {app: details}, ports: [{name: http, port: 9080}]}
"""
WILD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: default}
spec:
  hosts: ["*.svc.cluster.local"]
  resolution: DYNAMIC_DNS
  ports: [{number: 9080, name: http, protocol: HTTP}]
"""
REWRITTEN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: short, namespace: default}
spec:
  hosts: [short.example]
  http:
  - rewrite: {authority: "rewritten.default.svc.cluster.local:9080"}
    route: [{destination: {host: "*.svc.cluster.local", port: {number: 9080}}}]
"""
LOOKED_UP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}"}
"""
TWO_NODES = """
apiVersion: v1
kind: Service
metadata: {{name: nodes, namespace: default}}
spec: {{internalTrafficPolicy: {policy}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: nodes, namespace: default, labels: {{kubernetes.io/service-name: nodes}}}}
addressType: IPv4
ports: [{{name: http, port: 9080}}]
endpoints: [{{addresses: [{here}]}}, {{addresses: [{there}], nodeName: elsewhere}}]
"""
OWN_ADDRESS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: own, namespace: default}}
spec:
  hosts: [own.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 9999}}]
  endpoints: [{{address: {address}}}]
"""
INSTANCE = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: instance, namespace: default}
spec:
  workloadSelector: {labels: {app: details}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "0.0.0.0:9080"}
"""
NOWHERE = "http://192.0.2.1:9080/details/0"
NAMED = ("-H", "Host: hidden.default.svc.cluster.local:9080", "-m", "3")


def address(mesh: Mesh, prefix: str) -> str:
    found: str = mesh.pod(prefix)["status"]["podIP"]
    return found


def test_hosts_of_a_dynamic_service_entry_are_looked_up(bookinfo: Mesh) -> None:
    with bookinfo.applied(HIDDEN):
        assert bookinfo.curl(NOWHERE, *NAMED).status != 200
        with bookinfo.applied(WILD):
            assert bookinfo.curl(NOWHERE, *NAMED).status == 200
            # Another rule of the port holds as before.
            assert bookinfo.curl("http://details:9080/details/0").status == 200
            with bookinfo.applied(REWRITTEN):
                url = NOWHERE.replace(":9080", "")
                assert bookinfo.curl(url, "-H", "Host: short.example", "-m", "3").status == 200


def test_unknown_hosts_are_looked_up_where_the_mesh_says_so(bookinfo: Mesh) -> None:
    with bookinfo.applied(HIDDEN), bookinfo.applied(LOOKED_UP):
        assert bookinfo.curl(NOWHERE, *NAMED).status == 200
        # No listener of its own: the port is known to no service.
        assert bookinfo.curl(NOWHERE.replace("9080", "7000"), *NAMED).status == 200


def test_a_local_service_reaches_its_own_node_only(bookinfo: Mesh) -> None:
    """The pods are on one node; reviews, which does not know the path, is said to be elsewhere."""
    places = {"here": address(bookinfo, "details-v1"), "there": address(bookinfo, "reviews-v1")}
    url = "http://nodes/details/0"
    with bookinfo.applied(TWO_NODES.format(policy="Cluster", **places)):
        assert set(bookinfo.load(url, 40).statuses) == {"200", "404"}
        bookinfo.apply_text(TWO_NODES.format(policy="Local", **places))
        assert set(bookinfo.load(url, 40).statuses) == {"200"}


def test_a_workload_knows_the_ports_of_a_service_entry_with_its_address(bookinfo: Mesh) -> None:
    def clusters(workload: str) -> str:
        return bookinfo.run("config", "clusters", f"deploy/{workload}", "-o", "yaml").out

    with bookinfo.applied(OWN_ADDRESS.format(address=address(bookinfo, "details-v1"))):
        assert "inbound|9999||" in clusters("details-v1")
        assert "inbound|9999||" not in clusters("ratings-v1")
    assert "inbound|9999||" not in clusters("details-v1")


def test_an_ingress_port_may_lead_to_the_workloads_own_address(bookinfo: Mesh) -> None:
    """Not captured again on its way: the proxy says by the source address who it is."""
    own = address(bookinfo, "details-v1")
    with bookinfo.applied(INSTANCE):
        found = bookinfo.run("config", "clusters", "deploy/details-v1", "-o", "yaml").out
        inbound = found[found.index("name: inbound|9080||") :]
        assert f"address: {own}\n" in inbound[: inbound.index("outbound|")]
        assert bookinfo.curl("http://details:9080/details/0", "-m", "3").status == 200
