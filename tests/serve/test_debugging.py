"""Metrics and debug endpoints of a real control plane with real Envoys beside it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.admin.v3 import config_dump_shared_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2
from envoy.service.status.v3 import csds_pb2
from google.protobuf import json_format

from lateen import __version__
from lateen.envoy.protos import message_class, pool
from lateen.pki.keys import new_key_and_request
from lateen.serve.monitoring import is_local
from tests.serve.live import METRICS_PORT, LiveMesh, live_mesh, until

pytestmark = [pytest.mark.envoy, pytest.mark.live, pytest.mark.timeout(110)]

REVIEWS = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default, labels: {app: reviews}}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: 9080}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden, namespace: default}
stringData: {password: "do-not-show"}
"""
GRPC = """
import base64, sys, grpc
folder, method, request = sys.argv[1], sys.argv[2], base64.b64decode(sys.argv[3])
read = lambda name: open(f"{folder}/{name}", "rb").read()
credentials = grpc.ssl_channel_credentials(read("roots"), read("key"), read("chain"))
with grpc.secure_channel("127.0.0.1:15012", credentials) as channel:
    path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/" + method
    call = channel.stream_stream(path)(iter([request]), timeout=10)
    try:
        print(base64.b64encode(next(call)).decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMesh]:
    with live_mesh(tmp_path_factory.mktemp("mesh")) as found:
        found.apply(REVIEWS, wait=False)
        for name, namespace in (("reviews", "default"), ("sleep", "default"), ("other", "shop")):
            found.add_pod(name, namespace)
        found.add_pod("operator", "istio-system")
        for name in ("reviews", "sleep"):
            found.start_envoy(name)
        found.wait_connected("reviews", "sleep")
        yield found


def debug(mesh: LiveMesh, path: str) -> Any:
    return json.loads(mesh._http(METRICS_PORT, f"/debug/{path}"))


def strictly(resource: Any) -> None:
    """Parse a resource of a dump; a field or type that Envoy does not know is an error."""
    if resource is not None:
        name = resource.pop("@type").rpartition("/")[2]
        json_format.ParseDict(resource, message_class(name)(), descriptor_pool=pool())


def ask_over_xds(mesh: LiveMesh, pod: str, namespace: str, kind: str, *names: str) -> Any:
    """A debug request as Istio's tools send it; the response, or the refusal as text."""
    made = new_key_and_request()
    owner = {"namespace": namespace, "name": pod}
    issued = mesh.api.request(
        "POST", "/lateen/v1/certificates", {"csr": made.request.decode(), "pod": owner}
    )
    folder = mesh.folder / f"{pod}-client"
    folder.mkdir(exist_ok=True)
    (folder / "key").write_bytes(made.key)
    (folder / "chain").write_text(issued["chain"])
    (folder / "roots").write_text(issued["trust_bundle"])
    request = discovery_pb2.DiscoveryRequest(type_url=kind, resource_names=names)
    request.node.id = "debug~0.0.0.0~istioctl~cluster.local"
    request.response_nonce = "2026-11-29 12:00:00"  # of its own making
    encoded = base64.b64encode(request.SerializeToString()).decode()
    done = subprocess.run(
        mesh.enter(sys.executable, "-c", GRPC, str(folder), "StreamAggregatedResources", encoded),
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    if " " in done.stdout.strip():
        return done.stdout.strip()
    return discovery_pb2.DiscoveryResponse.FromString(base64.b64decode(done.stdout))


def test_every_endpoint_that_the_list_names_answers(mesh: LiveMesh) -> None:
    listed = debug(mesh, "list")
    for name in ENDPOINTS.split():
        assert f"/debug/{name}" in listed
    for path in listed:
        if path in ("/debug/pprof/profile", "/debug/pprof/goroutine", "/debug/pprof/stacks"):
            continue
        found = debug(mesh, path.removeprefix("/debug/") + "?proxyID=sleep.default")
        assert found is not None, path


def test_syncz_has_the_fields_that_proxy_status_compares(mesh: LiveMesh) -> None:
    row = next(row for row in debug(mesh, "syncz") if row["proxy"] == "sleep.default")
    assert row["cluster_id"] == "Kubernetes"
    assert row["proxy_type"] == "sidecar"
    for kind in ("cluster", "listener", "endpoint", "route"):
        assert row[f"{kind}_sent"] == row[f"{kind}_acked"] != ""
    assert debug(mesh, "syncz?namespace=nowhere") == []


def test_config_dump_is_what_envoys_readers_parse(mesh: LiveMesh) -> None:
    dump = debug(mesh, "config_dump?proxyID=sleep.default")
    assert [config["@type"].rpartition(".")[2] for config in dump["configs"]] == [
        "ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump", "RoutesConfigDump",
        "EcdsConfigDump",
    ]  # fmt: skip
    for config in dump["configs"]:
        kind = getattr(config_dump_shared_pb2, config.pop("@type").rpartition(".")[2])
        [entries] = config.values()
        assert entries
        for entry in entries:
            for name in ("cluster", "endpoint_config", "route_config", "ecds_filter"):
                strictly(entry.pop(name, None))
            strictly(entry.get("active_state", {}).pop("listener", None))
        json_format.ParseDict(config, kind())
    [clusters] = debug(mesh, "config_dump?proxyID=sleep.default&types=cds")["configs"]
    assert "origins" in clusters["dynamic_active_clusters"][0]["cluster"]["metadata"][
        "filter_metadata"]["lateen"]  # fmt: skip
    [only] = debug(mesh, "config_dump?proxyID=sleep.default&types=rds")["configs"]
    assert only["@type"].endswith("RoutesConfigDump")


def test_registryz_and_endpoints_have_the_shape_that_kiali_reads(mesh: LiveMesh) -> None:
    [service] = debug(mesh, "registryz")
    assert service["hostname"] == "reviews.default.svc.cluster.local"
    assert service["Attributes"]["ServiceRegistry"] == "Kubernetes"
    assert service["Attributes"]["LabelSelectors"] == {"app": "reviews"}
    assert service["ports"] == [{"name": "http", "port": 9080, "protocol": "HTTP"}]
    shards = debug(mesh, "endpointShardz")[service["hostname"]]["default"]["Shards"]
    [endpoint] = shards["Kubernetes/Kubernetes"]
    assert (endpoint["Addresses"], endpoint["TLSMode"]) == (["127.0.0.1"], "istio")


def test_secrets_are_nowhere_in_it(mesh: LiveMesh) -> None:
    for name in ("configz", "adsz", "mesh", "config_dump?proxyID=sleep.default"):
        text = json.dumps(debug(mesh, name))
        assert "do-not-show" not in text
        assert "ZG8tbm90LXNob3" not in text
        assert "PRIVATE KEY" not in text


def test_pushing_everything_makes_all_anew_and_sends_nothing_that_is_held(mesh: LiveMesh) -> None:
    def sent() -> list[str]:
        return [x for x in mesh.metrics().splitlines() if "resources_sent_total{" in x]

    before, version = sent(), mesh.status()["pushedVersion"]
    assert debug(mesh, "adsz?push=true")["proxies"] == 2
    until(lambda: mesh.status()["pushedVersion"] > version, "pushed")
    mesh.wait_connected("reviews", "sleep")
    assert sent() == before


def test_profiles_show_functions_of_the_running_process(mesh: LiveMesh) -> None:
    path = "/debug/pprof/profile?seconds=0.5"
    text = mesh._http(METRICS_PORT, path + "&format=collapsed")
    for line in text.splitlines():
        assert re.fullmatch(r".+ \d+", line)
    raw = subprocess.run(
        mesh.enter(
            sys.executable, "-c",
            "import sys, urllib.request as u;"
            f"sys.stdout.buffer.write(u.urlopen('http://127.0.0.1:{METRICS_PORT}{path}').read())",
        ),
        capture_output=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert b"nanoseconds" in gzip.decompress(raw)
    heap = debug(mesh, "pprof/heap")
    assert heap["residentBytes"] > 10_000_000
    assert "ControlPlane.run" in mesh._http(METRICS_PORT, "/debug/pprof/stacks")
    held = debug(mesh, "pprof/heap?seconds=0.2")
    assert held["seconds"] == 0.2


def test_metrics_have_istios_names(mesh: LiveMesh) -> None:
    text = mesh.metrics()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line[:1] != "#"}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} | names
    declared = set(re.findall(r"# TYPE (\w+)", text))
    for name in ISTIO_METRICS.split():
        assert name in families | declared, name
    assert re.search(r'^pilot_xds_pushes\{type="cds"\} [1-9]', text, re.M)
    assert re.search(r"^pilot_services 1\.0$", text, re.M)
    assert re.search(r'^pilot_k8s_reg_events\{event="add",type="Pods"\} \d', text, re.M)
    for phase in ("snapshot", "debounce", "translate", "difference", "send", "acknowledge"):
        assert re.search(rf'lateen_push_phase_seconds_count\{{phase="{phase}"\}} [1-9]', text)
    proxies = mesh._http(METRICS_PORT, "/metrics/proxies")
    assert 'lateen_proxy_in_sync{proxy="sleep.default"} 1.0' in proxies
    assert 'lateen_proxy_convergence_seconds{proxy="sleep.default"}' in proxies


def test_debugging_over_xds_is_for_the_root_namespace(mesh: LiveMesh) -> None:
    response = ask_over_xds(mesh, "operator", "istio-system", "istio.io/debug", "syncz")
    rows = json.loads(response.resources[0].value)
    assert {row["proxy"] for row in rows} == {"reviews.default", "sleep.default"}

    response = ask_over_xds(mesh, "operator", "istio-system", "istio.io/debug/syncz")
    server = json.loads(response.control_plane.identifier)
    assert (server["Component"], bool(server["ID"])) == ("lateen", True)
    assert server["Info"]["version"] == __version__
    states = {}
    for resource in response.resources:
        config = csds_pb2.ClientConfig.FromString(resource.value)
        states[config.node.id] = {entry.config_status for entry in config.generic_xds_configs}
        assert all(entry.last_updated.seconds for entry in config.generic_xds_configs)
    assert states == {"reviews.default": {1}, "sleep.default": {1}}  # ConfigStatus.SYNCED

    kind = "istio.io/debug/config_dump"
    response = ask_over_xds(mesh, "operator", "istio-system", kind, "sleep.default")
    sections = {item.type_url.rpartition(".")[2]: item.value for item in response.resources}
    listeners = config_dump_shared_pb2.ListenersConfigDump.FromString(
        sections["ListenersConfigDump"]
    )
    assert "virtualOutbound" in {entry.name for entry in listeners.dynamic_listeners}
    routes = config_dump_shared_pb2.RoutesConfigDump.FromString(sections["RoutesConfigDump"])
    found = {}
    for entry in routes.dynamic_route_configs:
        route = route_pb2.RouteConfiguration()
        assert entry.route_config.Unpack(route)
        found[route.name] = len(route.virtual_hosts)
    assert found["9080"]

    refused = ask_over_xds(mesh, "operator", "istio-system", "istio.io/debug", "syncz", "mesh")
    assert refused.startswith("INVALID_ARGUMENT")


def test_other_namespaces_see_only_proxies_of_their_own(mesh: LiveMesh) -> None:
    kind, own = "istio.io/debug", "config_dump?proxyID=sleep.default"
    assert ask_over_xds(mesh, "reviews", "default", kind, "syncz").startswith("PERMISSION_DENIED")
    response = ask_over_xds(mesh, "reviews", "default", kind, own)
    assert "configs" in json.loads(response.resources[0].value)
    for pod in (own, "config_dump?proxyID=nobody.default", "configz"):
        assert ask_over_xds(mesh, "other", "shop", kind, pod).startswith("PERMISSION_DENIED")


def test_only_loopback_may_ask_over_http_and_the_owner_over_the_socket(mesh: LiveMesh) -> None:
    assert is_local("127.0.0.1", "127.0.0.1:15014")
    assert is_local("::1", "[::1]:15014")
    assert is_local("127.0.0.1", "localhost")
    assert not is_local("10.244.0.7", "10.244.0.1:15014")
    # A name of somebody's own that resolves to loopback, from a page in a browser.
    assert not is_local("127.0.0.1", "rebound.example:15014")
    assert mesh.api.request("GET", "/lateen/v1/debug/registryz")[0]["hostname"]


ENDPOINTS = """
adsz authorizationz cachez config_dump configz connections edsz endpointShardz endpointz inject
instancesz mesh ndsz networkz pprof/heap pprof/profile push_status registryz resourcesz sidecarz
syncz telemetryz
"""
ISTIO_METRICS = """
pilot_xds pilot_xds_pushes pilot_xds_push_time pilot_xds_send_time pilot_xds_config_size_bytes
pilot_xds_cds_reject pilot_xds_eds_reject pilot_xds_lds_reject pilot_xds_rds_reject
pilot_total_xds_rejects pilot_total_xds_internal_errors pilot_xds_expired_nonce
pilot_xds_write_timeout pilot_push_triggers pilot_inbound_updates pilot_debounce_time
pilot_proxy_queue_time pilot_proxy_convergence_time pilot_pushcontext_init_seconds pilot_services
pilot_virt_services pilot_vservice_dup_domain pilot_destrule_subsets pilot_duplicate_envoy_clusters
pilot_conflict_inbound_listener pilot_conflict_outbound_listener_tcp_over_current_tcp
pilot_eds_no_instances pilot_dns_cluster_without_endpoints pilot_endpoint_not_ready endpoint_no_pod
pilot_no_ip pilot_k8s_reg_events pilot_k8s_cfg_events pilot_k8s_endpoints_with_no_pods
pilot_k8s_endpoints_pending_pod pilot_k8s_proxies_with_no_service_targets
pilot_sds_certificate_errors_total pilot_total_rejected_configs pilot_info istio_build
istiod_uptime_seconds xds_cache_reads xds_cache_size citadel_server_csr_count
citadel_server_success_cert_issuance_count citadel_server_csr_parsing_err_count
citadel_server_id_extraction_err_count citadel_server_csr_sign_err_count
citadel_server_root_cert_expiry_timestamp citadel_server_root_cert_expiry_seconds
citadel_server_cert_chain_expiry_timestamp citadel_server_cert_chain_expiry_seconds
galley_validation_passed galley_validation_failed
"""
