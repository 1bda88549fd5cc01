"""TCP forwarders that many listeners share: the same as one with its own configuration."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from lateen.envoy import build, decode, protos, tcp
from lateen.ir.listener import Reporter, TcpProxy, Telemetry, WeightedTcpCluster
from lateen.ir.route import HashPolicy

PLAIN = TcpProxy(
    "outbound|6379||redis.default.svc.cluster.local",
    (WeightedTcpCluster("outbound|6379||redis.default.svc.cluster.local"),),
    Telemetry(Reporter.SOURCE),
)
_TCP = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


def shown(source: TcpProxy) -> dict[str, Any]:
    """What is sent for ``source`` when it shares nothing."""
    return protos.to_dict(_TCP, tcp.tcp_proxy(source, mutual_tls=False, gateway=False))


@pytest.mark.parametrize("on_demand", [False, True])
@pytest.mark.parametrize(("metrics", "access_log"), [(True, True), (True, False), (False, True)])
def test_the_shared_part_is_what_a_listener_would_have_had(
    metrics: bool, access_log: bool, on_demand: bool
) -> None:
    telemetry = Telemetry(Reporter.SOURCE, metrics=metrics, access_log=access_log)
    source = replace(PLAIN, telemetry=telemetry, on_demand=on_demand)
    cluster, forwarder = map(_filter, tcp.filters(source, mutual_tls=False))
    [state] = cluster["typed_config"]["on_new_connection"]
    assert state["object_key"] == "envoy.tcp_proxy.cluster"
    name = state["format_string"]["text_format_source"]["inline_string"]
    assert name == source.clusters[0].cluster

    shared = decode.to_dict(build.extensions()[forwarder["name"]])["typed_config"]
    del shared["@type"]
    own = shown(source)
    # Envoy takes the cluster from the connection; the prefix is that of statistics nobody keeps.
    assert {**shared, "cluster": "", "stat_prefix": ""} == {
        **own, "cluster": "", "stat_prefix": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        replace(PLAIN, idle_timeout=1.0),
        replace(PLAIN, max_connection_duration=1.0),
        replace(PLAIN, hash_policies=(HashPolicy(source_ip=True),)),
        replace(PLAIN, tunnel_host="proxy:443"),
        replace(PLAIN, clusters=(*PLAIN.clusters, WeightedTcpCluster("other"))),
        replace(PLAIN, telemetry=Telemetry(Reporter.DESTINATION)),
        replace(PLAIN, telemetry=Telemetry(Reporter.SOURCE, metrics=False, access_log=False)),
    ],
)
def test_settings_of_its_own_stay_with_the_listener(source: TcpProxy) -> None:
    assert tcp.shared_name(source) == ""
    [only] = tcp.filters(source, mutual_tls=False)
    assert _filter(only)["name"] == "envoy.filters.network.tcp_proxy"


def _filter(body: bytes) -> dict[str, Any]:
    return protos.to_dict("envoy.config.listener.v3.Filter", body)
