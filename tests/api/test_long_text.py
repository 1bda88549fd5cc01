"""Text that is longer than its field allows is refused without trying the field's pattern on it."""

import time

import pytest

from lateen.api.parse import parse_documents

GATEWAY = """apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: default}}
spec:
  gatewayClassName: istio
  listeners: [{{name: a, port: 80, protocol: "{protocol}"}}]
"""


@pytest.mark.parametrize("size", [5_000, 20_000])
def test_long_protocol_is_refused_by_its_length_alone(size: int) -> None:
    started = time.process_time()
    result = parse_documents(GATEWAY.format(protocol="a" * size + "!"))
    assert time.process_time() - started < 1
    assert any("255" in finding.message for finding in result.findings)
