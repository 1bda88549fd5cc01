"""Small parts by example: names, domains, claims, conditions of retries, memory, TLS."""

from __future__ import annotations

import pytest

from lateen.api.networking.destination_rule import ClientTLSSettings
from lateen.api.networking.gateway import ServerTLSSettings, TLSCertificate
from lateen.api.networking.virtual_service import (
    FaultAbort,
    HTTPDirectResponse,
    HTTPFaultInjection,
    HTTPRedirect,
    HTTPRetry,
    Percent,
)
from lateen.ir.cluster import UpstreamProtocol
from lateen.ir.route import NoAction, RetryPolicy
from lateen.model.service import Locality
from lateen.translate import alpn, locality, names
from lateen.translate.domains import host_forms
from lateen.translate.gateway_tls import server_tls
from lateen.translate.memo import Identity, Memo
from lateen.translate.route_extras import direct_response, fault, redirect
from lateen.translate.route_match import Place, claim_path
from lateen.translate.route_retry import retry_policy, split_conditions
from lateen.translate.upstream_tls import from_settings


def test_cluster_names_can_be_taken_apart() -> None:
    name = names.outbound_cluster(9080, "v1", "reviews.default.svc.cluster.local")
    assert name == "outbound|9080|v1|reviews.default.svc.cluster.local"
    assert names.parse_cluster(name) == (
        "outbound",
        9080,
        "v1",
        "reviews.default.svc.cluster.local",
    )
    assert names.parse_cluster(names.PASSTHROUGH) is None


def test_short_names_are_for_the_own_namespace() -> None:
    host = "reviews.default.svc.cluster.local"
    assert host_forms(host, "default") == (
        host,
        f"{host}.",
        "reviews.default.svc",
        "reviews.default",
        "reviews",
    )
    assert "reviews" not in host_forms(host, "other")
    assert host_forms("www.example", "default") == ("www.example", "www.example.")
    assert host_forms("*.example", "default") == ("*.example",)


@pytest.mark.parametrize(
    ("header", "path"),
    [
        ("@request.auth.claims.group", ("group",)),
        ("@request.auth.claims.a.b", ("a", "b")),
        ("@request.auth.claims[a.b][c]", ("a.b", "c")),
    ],
)
def test_claims_are_named_with_dots_or_brackets(header: str, path: tuple[str, ...]) -> None:
    assert claim_path(header) == path


def test_status_codes_among_retry_conditions() -> None:
    assert split_conditions("reset, 503,504") == ("reset,retriable-status-codes", (503, 504))
    assert split_conditions("5xx") == ("5xx", ())


def test_a_retries_block_without_attempts_switches_them_off() -> None:
    default = RetryPolicy()
    assert retry_policy(None, default=default) is default
    assert retry_policy(HTTPRetry(), default=default) is None
    hashed = retry_policy(None, default=default, consistent_hash=True)
    assert hashed is not None
    assert not hashed.previous_hosts


def test_a_redirect_code_that_is_none_leaves_a_rule_without_action() -> None:
    place = Place("mesh", 80, "default")
    assert redirect(HTTPRedirect(uri="/x", redirect_code=305), place) == NoAction()


def test_only_the_mesh_understands_its_alpn() -> None:
    for protocol in UpstreamProtocol:
        assert "istio" in alpn.client_protocols(protocol)
        assert "istio-peer-exchange" not in alpn.client_protocols(protocol)
    tls = from_settings(
        ClientTLSSettings(mode="SIMPLE"),
        sni="outbound_.443_._.x",
        identities=("spiffe://cluster.local/ns/a/sa/b",),
        declared_names=(),
        protocol=UpstreamProtocol.HTTP1,
        credentials_by_name=False,
    )
    assert tls is not None
    assert tls.alpn == ()
    assert tls.subject_alt_names == ()
    assert tls.file_validation == "system"
    assert tls.auto_sni
    assert tls.auto_san_validation


def test_nearer_localities_come_first() -> None:
    own = Locality("eu", "a", "1")
    others = [own, Locality("eu", "a", "2"), Locality("eu", "b", "1"), Locality("us", "a", "1")]
    assert [locality.priority(own, other, None) for other in others] == [0, 1, 2, 3]


def test_memory_goes_by_identity_and_is_bounded() -> None:
    memo: Memo[object] = Memo(capacity=2)
    first, second = [1], [1]
    made = memo.get(Identity(first), object)
    assert memo.get(Identity(first), object) is made
    assert memo.get(Identity(second), object) is not made
    memo.get(Identity([2]), object)
    assert len(memo) == 2


def test_a_status_of_600_never_reaches_a_proxy() -> None:
    # Istio's admission takes it; Envoy refuses the whole route configuration.
    assert direct_response(HTTPDirectResponse(status=600)) == NoAction()
    injected = fault(
        HTTPFaultInjection(abort=FaultAbort(http_status=600, percentage=Percent(value=100)))
    )
    assert injected is not None
    assert injected.abort_http == 0


def test_of_the_certificates_of_a_server_the_first_two_are_used() -> None:
    pair = TLSCertificate(server_certificate="c", private_key="k")
    files = server_tls(ServerTLSSettings(mode="SIMPLE", tls_certificates=[pair] * 3), http=True)
    assert len(files.file_certificates) == 2
    named = server_tls(
        ServerTLSSettings(mode="SIMPLE", credential_names=["a", "b", "c"]), http=True
    )
    assert len(named.certificates) == 2
