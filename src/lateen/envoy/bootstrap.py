"""The bootstrap of sidecars and gateways (Envoy ``Bootstrap``).

It holds no secret: certificates are read from files on the pod's private tmpfs. Readiness on
15021 is Envoy's own ``/ready`` (live, with the first configuration applied), reached through a
static cluster, so it answers exactly as long as the proxy serves. Statistics are limited to
Istio's default set: those of every cluster and listener would cost more memory than all else.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lateen.envoy import clusters, protos, telemetry, tls
from lateen.envoy.protos import TYPE_PREFIX
from lateen.ir.tls import ROOT_CERTIFICATES, WORKLOAD_CERTIFICATE
from lateen.model.service import Locality

ADMIN_PORT = 15000
PROMETHEUS_PORT = 15090
STATUS_PORT = 15021
XDS_CLUSTER = "xds-grpc"

_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NAMESPACE_MODULE = (
    "AGFzbQEAAAABCQJgAABgAX8BfwMDAgABBQMBAAEHPwMGbWVtb3J5AgAXcHJveHlfYWJpX3ZlcnNpb25fMF8yXzEA"
    "ABhwcm94eV9vbl9tZW1vcnlfYWxsb2NhdGUAAQoJAgIACwQAQQAL"
)
"""A WebAssembly module that does nothing: loading one is what makes Envoy write the statistics
of the ``wasmcustom`` scope without an ``envoy_`` prefix."""

_STATS_PREFIXES = (
    "cluster_manager",
    "listener_manager",
    "server",
    f"cluster.{XDS_CLUSTER}",
    "wasm.",
    telemetry.SCOPE,
    "reporter=",
    "component",
    "istio",
    "sds.",
)
_STATS_SUFFIXES = (
    "rbac.allowed",
    "rbac.denied",
    "shadow_allowed",
    "shadow_denied",
    # What is still open decides how long a pod that goes away is drained.
    "downstream_cx_active",
    "downstream_rq_active",
)
_STATS_EXPRESSIONS = (r"vhost\..*\.route\..*",)
# Names that hold dots end with a semicolon, as in Istio; the others with the next dot.
_NAME = r"(([^;]+(?=;)|[^.;]+);?\.)"
_STATS_TAGS = {
    "cluster_name": rf"^cluster\.{_NAME}",
    "http_conn_manager_prefix": rf"^http\.{_NAME}",
    "tcp_prefix": rf"^tcp\.{_NAME}",
    "listener_address": r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
    # Names of virtual hosts begin with that of their route configuration.
    "route_config": r"^vhost\.(([^/]+?)/)",
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
}


@dataclass(frozen=True, slots=True)
class BootstrapConfig:
    """What differs from proxy to proxy. Times are in seconds."""

    node_id: str
    """``sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN``."""
    node_cluster: str
    """``APP.NAMESPACE``, the service name of traces."""
    control_plane_host: str
    control_plane_port: int
    control_plane_identity: str
    """SPIFFE ID that the control plane's certificate must carry."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Istio's node metadata (``NAME``, ``NAMESPACE``, ``LABELS``, ``INTERCEPTION_MODE`` ...)."""
    locality: Locality = Locality()
    gateway: bool = False
    mark: bool = False
    """Put `clusters.PROXY_MARK` on upstream sockets (needs CAP_NET_ADMIN)."""
    secret_directory: str = tls.SECRET_DIRECTORY
    admin_port: int = ADMIN_PORT
    prometheus_port: int = PROMETHEUS_PORT
    status_port: int = STATUS_PORT
    listen_address: str = "0.0.0.0"
    max_connections: int = 0
    """Downstream connections; 0 takes 20,000 for sidecars and 100,000 for gateways."""
    histogram_buckets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Metric name prefix to upper bounds (``sidecar.istio.io/statsHistogramBuckets``)."""
    stats_prefixes: tuple[str, ...] = ()
    stats_suffixes: tuple[str, ...] = ()
    stats_expressions: tuple[str, ...] = ()
    """More statistics to keep (``proxyStatsMatcher``)."""


def bootstrap(config: BootstrapConfig) -> bytes:
    """The bootstrap as JSON bytes, for ``envoy --config-path``."""
    return json.dumps(as_dict(config), separators=(",", ":"), sort_keys=True).encode()


def as_dict(config: BootstrapConfig) -> dict[str, Any]:
    """The bootstrap as proto3 JSON."""
    limit = config.max_connections or (100_000 if config.gateway else 20_000)
    manager = {"upstream_bind_config": {"socket_options": [_mark()]}} if config.mark else {}
    return {
        "node": _node(config),
        "admin": {"address": _address("127.0.0.1", config.admin_port)},
        "dynamic_resources": _dynamic(),
        "static_resources": {
            "clusters": [
                _control_plane(config),
                _admin_cluster("prometheus_stats", config.admin_port),
                _admin_cluster("agent", config.admin_port),
            ],
            "listeners": [
                _static_listener(
                    config.listen_address,
                    config.prometheus_port,
                    "/stats/prometheus",
                    "prometheus_stats",
                    "/stats/prometheus",
                ),
                _static_listener(
                    config.listen_address, config.status_port, "/healthz/ready", "agent", "/ready"
                ),
            ],
        },
        "cluster_manager": manager,
        "bootstrap_extensions": [_stat_namespace(), _internal_listeners()],
        "stats_config": _stats(config),
        "stats_flush_interval": "5s",
        "stats_eviction_interval": "3600s",
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": TYPE_PREFIX + "envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": limit,
                    },
                }
            ]
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "lateen",
                    "static_layer": {
                        # Users' expressions are checked by the control plane.
                        "re2.max_program_size.error_level": 32768,
                    },
                },
                {"name": "admin", "admin_layer": {}},
            ]
        },
        # Memory of a past burst goes back to the machine within seconds.
        "memory_allocator_manager": {
            "bytes_to_release": 16777216,
            "memory_release_interval": "5s",
        },
    }


def _node(config: BootstrapConfig) -> dict[str, Any]:
    place = config.locality
    node: dict[str, Any] = {
        "id": config.node_id,
        "cluster": config.node_cluster,
        "metadata": dict(config.metadata),
    }
    if place.region or place.zone or place.sub_zone:
        node["locality"] = {
            "region": place.region,
            "zone": place.zone,
            "sub_zone": place.sub_zone,
        }
    return node


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _dynamic() -> dict[str, Any]:
    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "cds_config": source,
        "lds_config": source,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
        },
    }


def _control_plane(config: BootstrapConfig) -> dict[str, Any]:
    context_name = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    common = tls.common_tls(
        certificates=(WORKLOAD_CERTIFICATE,),
        files=(),
        alpn=("h2",),
        versions=("TLSv1_2", "TLSv1_3"),
        directory=config.secret_directory,
    )
    validation = common.combined_validation_context
    validation.default_validation_context.match_typed_subject_alt_names.extend(
        tls.exact_names(config.control_plane_identity)
    )
    validation.validation_context_sds_secret_config.CopyFrom(
        tls.secret(ROOT_CERTIFICATES, config.secret_directory)
    )
    common_name = "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext"
    context: dict[str, Any] = {
        "@type": TYPE_PREFIX + context_name,
        "common_tls_context": protos.to_dict(common_name, common.SerializeToString()),
    }
    literal = _is_address(config.control_plane_host)
    if not literal:
        context["sni"] = config.control_plane_host
    return {
        "name": XDS_CLUSTER,
        "type": "STATIC" if literal else "STRICT_DNS",
        "dns_refresh_rate": "5s",
        "dns_lookup_family": "V4_PREFERRED",
        "respect_dns_ttl": True,
        # Up to the end of the handshake, with which a crowd of proxies has to wait for its turn
        # (`lateen.serve.handshakes`); who gives up earlier makes the crowd larger.
        "connect_timeout": "10s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": _endpoint(
            XDS_CLUSTER, config.control_plane_host, config.control_plane_port
        ),
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": priority,
                    "max_connections": 100000,
                    "max_pending_requests": 100000,
                    "max_requests": 100000,
                }
                for priority in ("DEFAULT", "HIGH")
            ]
        },
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": TYPE_PREFIX + _HTTP_OPTIONS,
                "explicit_http_config": {
                    "http2_protocol_options": {
                        "connection_keepalive": {"interval": "30s", "timeout": "10s"}
                    }
                },
            }
        },
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _endpoint(name: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _admin_cluster(name: str, port: int) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": _endpoint(name, "127.0.0.1", port),
    }


def _static_listener(
    address: str, port: int, path: str, cluster: str, target: str
) -> dict[str, Any]:
    router = {"@type": TYPE_PREFIX + "envoy.extensions.filters.http.router.v3.Router"}
    action: dict[str, Any] = {"cluster": cluster}
    if target != path:
        action["regex_rewrite"] = {
            "pattern": {"regex": "^.*$"},
            "substitution": target,
        }
    route = {"match": {"path": path}, "route": action}
    manager = {
        "@type": TYPE_PREFIX + _HTTP,
        "stat_prefix": cluster,
        "codec_type": "AUTO",
        "route_config": {
            "name": cluster,
            "virtual_hosts": [{"name": cluster, "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "common_http_protocol_options": {"idle_timeout": "60s"},
        "request_headers_timeout": "10s",
    }
    return {
        "name": f"{address}_{port}",
        "address": _address(address, port),
        # Probes and scrapes get through when the proxy has no connections to give.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "traffic_direction": "INBOUND",
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }


def _mark() -> dict[str, Any]:
    option = clusters.mark_option()
    return protos.to_dict("envoy.config.core.v3.SocketOption", option.SerializeToString())


def _stat_namespace() -> dict[str, Any]:
    return {
        "name": "envoy.bootstrap.wasm",
        "typed_config": {
            "@type": TYPE_PREFIX + "envoy.extensions.wasm.v3.WasmService",
            "singleton": True,
            "config": {
                "name": "register-stat-namespace",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"inline_bytes": _NAMESPACE_MODULE}},
                },
            },
        },
    }


def _internal_listeners() -> dict[str, Any]:
    name = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
    return {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": TYPE_PREFIX + name},
    }


def _stats(config: BootstrapConfig) -> dict[str, Any]:
    patterns = [
        *({"prefix": text} for text in (*_STATS_PREFIXES, *config.stats_prefixes)),
        *({"suffix": text} for text in (*_STATS_SUFFIXES, *config.stats_suffixes)),
        *(
            {"safe_regex": {"regex": text}}
            for text in (*_STATS_EXPRESSIONS, *config.stats_expressions)
        ),
    ]
    return {
        "use_all_default_tags": False,
        "stats_tags": [
            {"tag_name": name, "regex": expression} for name, expression in _STATS_TAGS.items()
        ],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
        "histogram_bucket_settings": [
            # Envoy matches the whole statistic name, label values included.
            {"match": {"prefix": f"{telemetry.SCOPE}.{prefix}"}, "buckets": list(buckets)}
            for prefix, buckets in config.histogram_buckets.items()
        ],
    }
