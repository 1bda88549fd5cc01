"""What the commands make of the data they get: pure functions, by example."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.cli import output
from lateen.cli.apply import print_wait
from lateen.cli.bring_up import urls
from lateen.cli.columns import pod_phase, pod_ready, pod_restarts
from lateen.cli.config import SUMMARIES, split
from lateen.cli.errors import CommandError
from lateen.cli.kinds import Reference, resolve
from lateen.cli.live import Counts, Edge, parse_requests
from lateen.cli.pods import _exec_options
from lateen.cli.status import overload_text, type_state


def requests(reporter: str, source: str, code: int, count: int, security: str = "unknown") -> bytes:
    """A line of Envoy's Prometheus page."""
    labels = {
        "reporter": reporter,
        "source_workload": source,
        "destination_workload": "api",
        "response_code": str(code),
        "connection_security_policy": security,
    }
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"istio_requests_total{{{text}}} {count}\n".encode()


SIDECAR = requests("source", "web", 200, 9) + requests("source", "web", 503, 1)
SERVER = requests("destination", "web", 200, 9, "mutual_tls") + requests(
    "destination", "unknown", 200, 4, "none"
)


def test_edges_count_at_the_source_and_learn_encryption_from_the_destination() -> None:
    edges = parse_requests([SIDECAR, SERVER])
    assert edges[Edge("web", "api")] == Counts(total=10, good=9, secure=9)


def test_clients_outside_the_mesh_are_counted_at_the_destination() -> None:
    edges = parse_requests([SIDECAR, SERVER])
    assert edges[Edge("unknown", "api")] == Counts(total=4, good=4, secure=0)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("po", "Pod"),
        ("vs", "VirtualService"),
        ("deploy", "Deployment"),
        ("svc", "Service"),
        ("gateways", "Gateway"),
        ("PeerAuthentication", "PeerAuthentication"),
    ],
)
def test_kinds_by_the_names_people_use(word: str, kind: str) -> None:
    assert resolve(word).kind == kind


def test_istios_gateway_wins_over_the_gateway_apis() -> None:
    assert resolve("gateway").info.group == "networking.istio.io"
    assert resolve("gateway.gateway.networking.k8s.io").info.group == "gateway.networking.k8s.io"


def test_an_unknown_kind_suggests_the_nearest() -> None:
    with pytest.raises(CommandError, match="no kind 'deploymnts'") as caught:
        resolve("deploymnts")
    assert caught.value.hint == "did you mean deployments?"


def test_references_name_a_kind_and_an_object() -> None:
    assert Reference.parse("deploy/web").name == "web"
    assert Reference.parse("web", "deployment").kind.kind == "Deployment"
    with pytest.raises(CommandError):
        Reference.parse("web")


def test_paths_of_objects_follow_the_kubernetes_api() -> None:
    assert resolve("po").path("shop", "web") == "/api/v1/namespaces/shop/pods/web"
    assert resolve("ns").path("shop", "web") == "/api/v1/namespaces/web"
    assert resolve("vs").path("") == "/apis/networking.istio.io/v1/virtualservices"


def test_a_pods_row() -> None:
    pod = {
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "web"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {"ready": True, "restartCount": 2, "state": {"running": {}}},
                {
                    "ready": False,
                    "restartCount": 1,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                },
            ],
        },
    }
    assert (pod_ready(pod), pod_phase(pod), pod_restarts(pod)) == ("1/2", "CrashLoopBackOff", "3")
    leaving = {**pod, "metadata": {"name": "web", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert pod_phase(leaving) == "Terminating"


def test_addresses_to_open_name_http_first() -> None:
    published = [
        {"port": 443, "host": "127.0.0.1", "hostPort": 8443},
        {"port": 80, "host": "127.0.0.1", "hostPort": 8080},
        {"port": 31400, "host": "127.0.0.1", "hostPort": 31400},
    ]
    assert urls(published) == ["http://127.0.0.1:8080", "https://127.0.0.1:8443"]


def test_a_config_dump_is_summarised_with_the_rule_behind_each_cluster() -> None:
    path = "/apis/networking.istio.io/v1/namespaces/default/destination-rule/reviews"
    dump = {
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
                "dynamic_active_clusters": [
                    {
                        "cluster": {
                            "name": "outbound|9080|v1|reviews.default.svc.cluster.local",
                            "type": "EDS",
                            "metadata": {"filter_metadata": {"istio": {"config": path}}},
                        }
                    }
                ],
            }
        ]
    }
    _, rows = SUMMARIES["clusters"](split(dump)["clusters"])
    assert rows == [
        (
            "reviews.default.svc.cluster.local",
            "9080",
            "v1",
            "outbound",
            "EDS",
            "destination-rule default/reviews",
        )
    ]


def test_the_kind_of_a_cluster_that_envoy_names_otherwise_is_shown() -> None:
    cluster = {
        "name": "outbound|80||*.example.com",
        "cluster_type": {"name": "envoy.clusters.dynamic_forward_proxy"},
    }
    _, ((_, _, _, _, kind, _),) = SUMMARIES["clusters"]([cluster])
    assert kind == "DYNAMIC_FORWARD_PROXY"


def test_proxies_that_are_behind_are_named_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    laggards = [
        {"proxy": "web-1.shop", "types": [], "rejection": "process 7 does not answer"},
        {"proxy": "web-2.shop", "types": ["cds"], "rejection": ""},
        {"proxy": "web-3.shop", "types": ["cds"], "rejection": "", "unsettledSeconds": 17.2},
    ]
    print_wait({"acknowledged": False, "proxies": 1, "laggards": laggards}, 5)

    _, first, second, third, _ = capsys.readouterr().out.splitlines()
    assert first.strip() == "web-1.shop: process 7 does not answer"
    assert second.strip() == "web-2.shop"
    assert third.strip() == "web-3.shop: no acknowledgement of cds for 17 s"


def test_table_cells_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output.table(("NAME", "STATE"), [(long, "[green]fine[/]"), ("short", "so-so")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"{long}   fine"
    assert lines[2].startswith("short ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (119, "119s"), (600, "10m"), (7300, "2h"), (200_000, "2d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


def test_exec_takes_options_behind_the_pod_as_kubectl_does() -> None:
    options = _exec_options(["-c", "istio-proxy", "-it", "--namespace=shop"])
    assert (options.container, options.namespace) == ("istio-proxy", "shop")
    assert options.stdin
    assert options.terminal
    with pytest.raises(CommandError, match="does not know '--bogus'"):
        _exec_options(["--bogus"])


@pytest.mark.parametrize(
    ("types", "shown"),
    [
        ({"rds": {"state": "SYNCED"}, "vhds": {"state": "SYNCED"}}, "SYNCED"),
        ({"rds": {"state": "SYNCED"}, "vhds": {"state": "ERROR"}}, "ERROR"),
        ({"rds": {"state": "SYNCED"}, "vhds": {"state": "STALE"}}, "STALE"),
        ({"rds": {"state": "SYNCED"}}, "SYNCED"),
        ({}, "IGNORED"),
    ],
)
def test_routes_are_as_far_as_their_virtual_hosts(types: dict[str, Any], shown: str) -> None:
    assert type_state(types, "rds") == shown


def test_an_overload_is_told_with_what_is_deferred() -> None:
    overload = {"overloaded": True, "seconds": 12.4, "deferredChanges": 0, "deferredByClass": {}}
    begin = (
        "the control plane has been overloaded for 12 s: endpoints, secrets and security policies "
        "go first"
    )
    assert overload_text(overload) == f"{begin}, nothing is deferred now"
    overload |= {
        "deferredChanges": 4,
        "deferredByClass": {"routes": 3, "services": 1},
        "oldestSeconds": 2.34,
    }
    assert overload_text(overload) == (
        f"{begin}, 4 other changes are deferred (3 of routes, 1 of services), the oldest for 2.3 s"
    )


def test_a_wait_that_ends_during_an_overload_says_what_it_waits_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_wait({"acknowledged": False, "deferredChanges": 7, "laggards": []}, 5.0)
    first, second = capsys.readouterr().out.splitlines()
    assert "not live after 5 s" in first
    assert "7 changes wait for endpoints and security policies" in first
    assert "nothing is lost" in second
