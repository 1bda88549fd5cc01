"""Values of VirtualServices, Gateways and Sidecars that do nothing are told, with their place."""

from __future__ import annotations

import pytest

from lateen.translate.unused_kinds import effect_findings
from tests.model.meshes import istio, objects

REDIRECT = "{hosts: [x.example], http: [{redirect: {uri: /x, redirectCode: %d}}]}"


EGRESS = "{egress: [{port: {number: 0, protocol: HTTP, name: h}, bind: '%s', hosts: ['./*']}]}"
SERVER = (
    "{servers: [{port: {number: 0, protocol: HTTP, name: h}, bind: '%s', hosts: ['*']}],"
    " selector: {istio: ingressgateway}}"
)


def places(text: str) -> list[str]:
    """Paths of what is said of the one object in ``text``."""
    (resource,) = objects(text)
    return [".".join(map(str, finding.path)) for finding in effect_findings(resource)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (istio("VirtualService", "v", REDIRECT % 304), ["spec.http.0.redirect.redirectCode"]),
        (istio("VirtualService", "v", REDIRECT % 300), ["spec.http.0.redirect.redirectCode"]),
        (istio("VirtualService", "v", REDIRECT % 307), []),
        (istio("Sidecar", "s", EGRESS % "unix:///run/a.sock"), ["spec.egress.0.bind"]),
        (istio("Sidecar", "s", EGRESS % "unix://@a"), []),
        (istio("Gateway", "g", SERVER % "unix:///run/a.sock"), ["spec.servers.0.bind"]),
        (istio("Gateway", "g", SERVER % "unix://@a"), []),
    ],
)
def test_a_value_without_effect_is_told(text: str, told: list[str]) -> None:
    assert places(text) == told
