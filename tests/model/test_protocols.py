"""Protocol selection."""

from __future__ import annotations

import pytest

from lateen.model.protocols import select_protocol
from lateen.model.service import Protocol


@pytest.mark.parametrize(
    ("number", "name", "transport", "app_protocol", "expected"),
    [
        (80, "http", "TCP", "", Protocol.HTTP),
        (80, "HTTP2-api", "TCP", "", Protocol.HTTP2),
        (80, "grpc-web", "TCP", "", Protocol.GRPC_WEB),
        (80, "grpc-web-ui", "TCP", "", Protocol.GRPC_WEB),
        (80, "grpc-website", "TCP", "", Protocol.GRPC),
        (80, "tcp-db", "TCP", "http", Protocol.HTTP),
        (80, "http", "TCP", "kubernetes.io/h2c", Protocol.HTTP2),
        (80, "http", "TCP", "kubernetes.io/wss", Protocol.HTTPS),
        (80, "http", "UDP", "", Protocol.UDP),
        (9000, "web", "TCP", "", Protocol.AUTO),
        (3306, "", "TCP", "", Protocol.TCP),
        (27017, "db", "TCP", "", Protocol.TCP),
        (25, "http", "TCP", "", Protocol.HTTP),
        (443, "https-web", "TCP", "", Protocol.HTTPS),
        (80, "httpx", "TCP", "", Protocol.AUTO),
    ],
)
def test_selection(
    number: int, name: str, transport: str, app_protocol: str, expected: Protocol
) -> None:
    assert select_protocol(number, name, transport, app_protocol) is expected
