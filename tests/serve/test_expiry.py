"""Certificates of Gateway credentials that have expired or soon will are warnings of status."""

from __future__ import annotations

import asyncio

import pytest

from lateen.api.findings import Severity
from lateen.serve.found import Found
from tests.certificates import issue
from tests.serve.mesh import parsed, pod, snapshot_of


@pytest.mark.parametrize(
    ("days", "age", "told"),
    [(30, 0, ""), (8, 0, ""), (6, 0, "expires at"), (30, 40, "expired at")],
)
def test_a_certificate_that_ends_soon_is_told(days: float, age: float, told: str) -> None:
    issued = issue(days=days, age_days=age)
    secret = parsed(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "web", "namespace": "edge"},
            "stringData": {"tls.crt": issued.certificate, "tls.key": issued.key},
        }
    )
    gateway = parsed(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "front", "namespace": "shop"},
            "spec": {
                "selector": {"app": "ingress"},
                "servers": [
                    {
                        "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                        "hosts": ["*"],
                        "tls": {"mode": "SIMPLE", "credentialName": "web"},
                    }
                ],
            },
        }
    )
    snapshot, _ = snapshot_of(secret, gateway, pod("ingress", "edge"))
    found = Found()
    for _ in range(2):  # the second is from what was kept
        findings = [f for f in asyncio.run(found.of(snapshot)) if f.rule == "LT2013"]
        assert len(findings) == bool(told)
        for finding in findings:
            assert finding.severity is Severity.WARNING
            assert str(finding.key) == "Gateway shop/front"
            assert told in finding.message
            assert "Secret edge/web" in finding.message
