"""Which pods get a sidecar: Istio's rules as a table."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.runtime.injection import decide, inject, is_gateway, is_injected
from tests.runtime.objects import pod

ON, OFF, REVISION = (
    {"istio-injection": "enabled"},
    {"istio-injection": "disabled"},
    {"istio.io/rev": "canary"},
)
INJECT = "sidecar.istio.io/inject"


@pytest.mark.parametrize(
    ("namespace", "labels", "annotations", "injected"),
    [
        ({}, {}, {}, False),
        (ON, {}, {}, True),
        (OFF, {}, {}, False),
        (REVISION, {}, {}, True),
        ({**OFF, **REVISION}, {}, {}, False),
        ({**ON, **REVISION}, {}, {}, True),
        ({"istio-injection": "typo"}, {INJECT: "true"}, {}, False),
        ({}, {INJECT: "true"}, {}, True),
        (OFF, {INJECT: "true"}, {}, False),
        (ON, {INJECT: "false"}, {}, False),
        (REVISION, {INJECT: "false"}, {}, False),
        ({}, {"istio.io/rev": "canary"}, {}, True),
        ({}, {"istio.io/rev": "canary", INJECT: "false"}, {}, False),
        ({}, {}, {INJECT: "true"}, False),
        (ON, {}, {INJECT: "false"}, False),
        (ON, {INJECT: "true"}, {INJECT: "false"}, True),
        (ON, {INJECT: "perhaps"}, {}, True),
    ],
)
def test_who_is_injected(namespace: Any, labels: Any, annotations: Any, injected: bool) -> None:
    raw = pod(labels=labels, annotations=annotations)
    assert decide(namespace, raw).inject is injected


def test_some_pods_are_never_injected() -> None:
    on_host = pod(labels={INJECT: "true"})
    on_host["spec"]["hostNetwork"] = True
    assert not decide(ON, on_host).inject
    system = pod(labels={INJECT: "true"})
    system["metadata"]["namespace"] = "kube-system"
    assert not decide(ON, system).inject


def test_the_mesh_default_is_for_namespaces_without_a_wish() -> None:
    assert decide({}, pod(), default=True).inject
    assert not decide(OFF, pod(), default=True).inject
    assert not decide({}, pod(labels={INJECT: "false"}), default=True).inject


def test_a_sidecar_says_that_it_speaks_mesh_tls_and_a_gateway_does_not() -> None:
    sidecar = inject(pod(), decide(ON, pod()))
    assert is_injected(sidecar)
    assert sidecar["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"
    raw = pod(labels={INJECT: "true"}, annotations={"inject.istio.io/templates": "gateway"})
    gateway = inject(raw, decide({}, raw))
    assert is_gateway(gateway)
    assert "security.istio.io/tlsMode" not in gateway["metadata"]["labels"]
