"""How long 10,000 objects of one file take to read: `python -m benchmarks.parse [COUNT]`."""

from __future__ import annotations

import sys
import time

from lateen.api.parse import parse_documents
from lateen.api.validate import validate_all

_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: svc-{n}
  namespace: ns-{ns}
  labels: {{app: svc-{n}}}
spec:
  clusterIP: 10.{a}.{b}.{c}
  selector:
    app: svc-{n}
  ports:
  - name: http
    port: 8080
    targetPort: 9080
    appProtocol: http
"""
_SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: svc-{n}-abcde
  namespace: ns-{ns}
  labels:
    kubernetes.io/service-name: svc-{n}
addressType: IPv4
endpoints:
- addresses: [10.1.{b}.1]
  conditions: {{ready: true}}
  zone: zone-a
- addresses: [10.1.{b}.2]
  conditions: {{ready: true}}
  zone: zone-b
- addresses: [10.1.{b}.3]
  conditions: {{ready: false}}
ports:
- name: http
  port: 9080
  protocol: TCP
"""
_VIRTUAL_SERVICE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: svc-{n}
  namespace: ns-{ns}
spec:
  hosts: [svc-{n}.ns-{ns}.svc.cluster.local]
  http:
  - match:
    - uri: {{prefix: /api}}
      headers:
        x-user: {{exact: alice}}
    route:
    - destination: {{host: svc-{n}, subset: v2}}
    timeout: 5s
    retries: {{attempts: 3, perTryTimeout: 1s, retryOn: 5xx}}
  - route:
    - destination: {{host: svc-{n}, subset: v1}}
      weight: 90
    - destination: {{host: svc-{n}, subset: v2}}
      weight: 10
"""
_DESTINATION_RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: svc-{n}
  namespace: ns-{ns}
spec:
  host: svc-{n}.ns-{ns}.svc.cluster.local
  trafficPolicy:
    loadBalancer: {{simple: LEAST_REQUEST}}
    connectionPool:
      tcp: {{maxConnections: 100, connectTimeout: 2s}}
      http: {{http2MaxRequests: 1000}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 10s, baseEjectionTime: 30s}}
  subsets:
  - name: v1
    labels: {{version: v1}}
  - name: v2
    labels: {{version: v2}}
"""


def text_of(count: int) -> str:
    """A file with ``count`` objects, a quarter of each kind."""
    parts: list[str] = []
    for n in range(count // 4):
        names = {"n": n, "ns": n % 20, "a": n >> 16, "b": (n >> 8) & 255, "c": n & 255}
        parts += [
            template.format(**names)
            for template in (_SERVICE, _SLICE, _VIRTUAL_SERVICE, _DESTINATION_RULE)
        ]
    return "---\n".join(parts)


def main() -> None:
    """Print seconds for reading and for validation."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    text = text_of(count)
    start = time.perf_counter()
    result = parse_documents(text, "benchmark.yaml")
    read = time.perf_counter() - start
    assert len(result.resources) == count // 4 * 4, result.findings[:3]
    start = time.perf_counter()
    findings = validate_all(result.resources)
    checked = time.perf_counter() - start
    print(f"{len(result.resources)} objects, {len(text) / 1e6:.1f} MB: ", end="")
    print(f"read in {read:.2f} s, validated in {checked:.2f} s, {len(findings)} findings")


if __name__ == "__main__":
    main()
