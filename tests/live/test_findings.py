"""What is wrong beside other objects is told when it is applied, by `status` and by `validate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.live.mesh import Mesh

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: astray, namespace: default}
spec:
  hosts: [ratings]
  gateways: [mesh, no-such-gateway]
  http:
  - {match: [{uri: {prefix: /1}}], route: [{destination: {host: nosuch}}]}
  - {match: [{uri: {prefix: /2}}], route: [{destination: {host: ratings, subset: v9}}]}
  - {match: [{uri: {prefix: /3}}], route: [{destination: {host: ratings, port: {number: 1}}}]}
  - {route: [{destination: {host: ratings}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: uncertified, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - hosts: [shop.example.com]
    port: {number: 443, name: https-shop, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: not-issued-yet}
"""
TOLD = ("LT2003", "LT2004", "LT2005", "LT2008", "LT2011")


def test_apply_and_status_tell_what_leads_nowhere(bookinfo: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    try:
        result = bookinfo.apply(path)
        for rule in TOLD:
            assert rule in result.out, (rule, result.out)
        assert f"{path}:9:" in result.out
        assert "there is no Secret istio-system/not-issued-yet" in result.out
        status = bookinfo.run("status", "-v", status=None).out
        assert all(rule in status for rule in TOLD), status
        assert "not-issued-yet" in status
        # Nothing waits for the Secret: the gateway goes on.
        assert bookinfo.get("/productpage").status == 200
    finally:
        bookinfo.run("delete", "-f", str(path), "--ignore-not-found")
    status = bookinfo.run("status", "-o", "json", status=None).json()
    assert not [item for item in status["findings"] if item["rule"] in TOLD]


def test_programs_can_read_what_translate_prints(bookinfo: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        RULES.partition("---")[0]
        + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: default}\n"
        "spec: {containers: [{name: a, image: example}]}\n"
    )
    words = ("translate", "-f", str(path), "--workload", "pod/client")
    result = bookinfo.run(*words, "-o", "json", status=None)
    assert json.loads(result.out)
    assert "LT2003" in result.err


def test_check_is_red_while_a_policy_is_not_enforced(bookinfo: Mesh) -> None:
    policy = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: locked, namespace: default}\nspec: {}\n"
    )
    try:
        bookinfo.apply_text(policy, status=1)
        result = bookinfo.run("check", status=1)
        assert "1 security policy does nothing: AuthorizationPolicy default/locked" in result.out
    finally:
        bookinfo.delete_text(policy)
    assert "no security policy is without effect" in bookinfo.run("check", status=None).out
