"""Access loggers: Istio's metrics by Envoy's stats logger, and Istio's JSON access log.

Every stat renders its 25 tags (23 for TCP, which has no response code and no gRPC status) anew
for every request, so all that can be a constant is one: own labels are read from the proxy's
environment when the configuration is loaded (which also keeps resources equal for all workloads
of a namespace), and labels of the peer are computed once per connection (`lateen.envoy.peers`).
A stat has one logger for HTTP and gRPC together.

Names and labels are those of Istio's standard metrics. TCP bytes are counted when a connection
ends, as Envoy's periodic log events carry running totals and not differences.
"""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from envoy.config.accesslog.v3 import accesslog_pb2

from lateen.envoy import metadata, peers, protos
from lateen.envoy.protos import TYPE_PREFIX
from lateen.ir.listener import Reporter, Telemetry

SCOPE = "wasmcustom"
"""Statistics namespace whose Prometheus names have no ``envoy_`` prefix (see `bootstrap`)."""
_STATS_LOGGER = "envoy.extensions.access_loggers.stats.v3.Config"
_FILE_LOGGER = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
MAX_SERIES = 20000
"""Series of one kind that a proxy keeps: labels partly come from clients."""
GRPC_METADATA = "istio.grpc"

JSON_FORMAT = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""The 24 fields of Istio's default JSON access log."""


class Chain(NamedTuple):
    """What decides the loggers of a filter chain."""

    reporter: Reporter
    mutual_tls: bool
    gateway: bool
    """Gateways do not fall back to the Host header: clients choose it freely."""


def http_loggers(telemetry: Telemetry, *, gateway: bool, grpc: bool) -> bytes:
    """Serialised ``HttpConnectionManager`` that holds the access loggers of a chain."""
    return _http(
        Chain(telemetry.reporter, telemetry.mutual_tls, gateway),
        telemetry.metrics,
        telemetry.access_log,
        grpc,
    )


@functools.cache
def _http(chain: Chain, metrics: bool, access_log: bool, grpc: bool) -> bytes:
    loggers: list[dict[str, Any]] = []
    if access_log:
        loggers.append(_file_logger(None))
    if metrics:
        loggers.append(_http_stats(chain))
        if grpc:
            loggers.append(_grpc_stats(chain))
    name = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    return protos.from_dict(name, {"access_log": loggers})


def tcp_loggers(telemetry: Telemetry, *, gateway: bool) -> bytes:
    """Serialised ``TcpProxy`` that holds the access loggers of a chain."""
    chain = Chain(telemetry.reporter, telemetry.mutual_tls, gateway)
    return _tcp(chain, telemetry.metrics, telemetry.access_log)


@functools.cache
def _tcp(chain: Chain, metrics: bool, access_log: bool) -> bytes:
    end = {"log_type_filter": {"types": ["TcpConnectionEnd"]}}
    value: dict[str, Any] = {"access_log": []}
    if access_log:
        value["access_log"].append(_file_logger(end))
    if metrics:
        tags = _tcp_tags(chain)
        opened = {"log_type_filter": {"types": ["TcpUpstreamConnected"]}}
        closed = [
            _counter("istio_tcp_connections_closed_total", tags),
            _counter("istio_tcp_sent_bytes_total", tags, "%BYTES_SENT%"),
            _counter("istio_tcp_received_bytes_total", tags, "%BYTES_RECEIVED%"),
        ]
        value["access_log"] += [
            _stats_logger(opened, [_counter("istio_tcp_connections_opened_total", tags)], []),
            _stats_logger(end, closed, []),
        ]
        value["access_log_options"] = {"flush_access_log_on_connected": True}
    return protos.from_dict("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", value)


@functools.cache
def no_route_logger() -> accesslog_pb2.AccessLog:
    """The access log of connections for which a listener has no filter chain (flag ``NR``)."""
    logger = _file_logger({"response_flag_filter": {"flags": ["NR"]}})
    body = protos.from_dict("envoy.config.accesslog.v3.AccessLog", logger)
    return accesslog_pb2.AccessLog.FromString(body)


def _file_logger(log_filter: dict[str, Any] | None) -> dict[str, Any]:
    logger: dict[str, Any] = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE_PREFIX + _FILE_LOGGER,
            "path": "/dev/stdout",
            "log_format": {"json_format": JSON_FORMAT},
        },
    }
    return logger if log_filter is None else {**logger, "filter": log_filter}


def _stats_logger(
    log_filter: dict[str, Any] | None,
    counters: list[dict[str, Any]],
    histograms: list[dict[str, Any]],
) -> dict[str, Any]:
    logger: dict[str, Any] = {
        "name": "istio.stats",
        "typed_config": {
            "@type": TYPE_PREFIX + _STATS_LOGGER,
            # A shared scope keeps its series when a listener is replaced.
            "stats_scope": {
                "prefix": SCOPE,
                "sharing_name": "istio",
                "enable_eviction": True,
                "max_counters": MAX_SERIES,
                "max_histograms": MAX_SERIES,
            },
            "counters": counters,
            "histograms": histograms,
        },
    }
    return logger if log_filter is None else {**logger, "filter": log_filter}


def _http_stats(chain: Chain) -> dict[str, Any]:
    tags = _http_tags(chain)
    histograms = [
        _histogram("istio_request_duration_milliseconds", tags, "Milliseconds", "%DURATION%"),
        _histogram("istio_request_bytes", tags, "Bytes", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%"),
        _histogram("istio_response_bytes", tags, "Bytes", "%DOWNSTREAM_WIRE_BYTES_SENT%"),
    ]
    return _stats_logger(None, [_counter("istio_requests_total", tags)], histograms)


def _grpc_stats(chain: Chain) -> dict[str, Any]:
    tags = _http_tags(chain)
    # Replies without trailers from this proxy itself carry no counts: nothing to add then.
    counted = {
        "and_filter": {
            "filters": [
                {
                    "header_filter": {
                        "header": {
                            "name": "content-type",
                            "string_match": {"prefix": "application/grpc"},
                        }
                    }
                },
                {
                    "metadata_filter": {
                        "matcher": {
                            "filter": GRPC_METADATA,
                            "path": [{"key": "req"}],
                            "value": {"present_match": True},
                        },
                        "match_if_key_not_found": False,
                    }
                },
            ]
        }
    }
    counters = [
        _counter("istio_request_messages_total", tags, f"%DYNAMIC_METADATA({GRPC_METADATA}:req)%"),
        _counter(
            "istio_response_messages_total", tags, f"%DYNAMIC_METADATA({GRPC_METADATA}:resp)%"
        ),
    ]
    return _stats_logger(counted, counters, [])


def _counter(name: str, tags: list[dict[str, Any]], value: str = "") -> dict[str, Any]:
    stat = {"name": name, "tags": tags}
    return {"stat": stat, "value_format": value} if value else {"stat": stat, "value_fixed": 1}


def _histogram(name: str, tags: list[dict[str, Any]], unit: str, value: str) -> dict[str, Any]:
    return {"stat": {"name": name, "tags": tags}, "unit": unit, "value_format": value}


def _http_tags(chain: Chain) -> list[dict[str, Any]]:
    request_protocol = {
        "name": "request_protocol",
        "value_format": "%REQ(content-type)%",
        "rules": _GRPC_OR_HTTP,
    }
    return [
        *_sides(chain, http=True),
        request_protocol,
        _tag("response_code", "%RESPONSE_CODE%"),
        _tag("grpc_response_status", "%GRPC_STATUS_NUMBER%"),
        _tag("response_flags", "%RESPONSE_FLAGS%"),
        _security_policy(chain),
    ]


def _tcp_tags(chain: Chain) -> list[dict[str, Any]]:
    return [
        *_sides(chain, http=False),
        _tag("request_protocol", "tcp"),
        _tag("response_flags", "%RESPONSE_FLAGS%"),
        _security_policy(chain),
    ]


def _security_policy(chain: Chain) -> dict[str, Any]:
    policy = "unknown"
    if chain.reporter is Reporter.DESTINATION:
        policy = "mutual_tls" if chain.mutual_tls else "none"
    return _tag("connection_security_policy", policy)


def _sides(chain: Chain, *, http: bool) -> list[dict[str, Any]]:
    server = chain.reporter is Reporter.DESTINATION
    if server:
        source = _certificate_labels() if chain.mutual_tls else _unknown_labels()
        destination = _own_labels("%DOWNSTREAM_LOCAL_URI_SAN%" if chain.mutual_tls else "unknown")
    else:
        source = _own_labels(_first("UPSTREAM_LOCAL_URI_SAN"))
        destination = _endpoint_labels()
    return [
        _tag("reporter", chain.reporter.value),
        *(_tag(f"source_{name}", value) for name, value in source.items()),
        *(_tag(f"destination_{name}", value) for name, value in destination.items()),
        *(_tag(name, value) for name, value in _service(chain, http=http).items()),
    ]


def _own_labels(principal: str) -> dict[str, str]:
    return {
        "workload": "%ENVIRONMENT(LATEEN_WORKLOAD)%",
        "workload_namespace": "%ENVIRONMENT(LATEEN_NAMESPACE)%",
        "app": "%ENVIRONMENT(LATEEN_APP)%",
        "version": "%ENVIRONMENT(LATEEN_VERSION)%",
        "canonical_service": "%ENVIRONMENT(LATEEN_CANONICAL_NAME)%",
        "canonical_revision": "%ENVIRONMENT(LATEEN_CANONICAL_REVISION)%",
        "cluster": "%ENVIRONMENT(LATEEN_CLUSTER)%",
        "principal": principal,
    }


def _certificate_labels() -> dict[str, str]:
    keys = {
        "workload": peers.WORKLOAD,
        "workload_namespace": peers.NAMESPACE,
        "app": peers.APP,
        "version": peers.REVISION,
        "canonical_service": peers.CANONICAL_NAME,
        "canonical_revision": peers.REVISION,
        "cluster": peers.CLUSTER,
        "principal": peers.PRINCIPAL,
    }
    return {name: f"%FILTER_STATE({key}:PLAIN)%" for name, key in keys.items()}


def _unknown_labels() -> dict[str, str]:
    labels = dict.fromkeys(_own_labels(""), "unknown")
    return {**labels, "canonical_revision": "latest"}


def _endpoint_labels() -> dict[str, str]:
    own = metadata.ENDPOINT_KEYS
    keys = {
        "workload": own.workload,
        "workload_namespace": own.namespace,
        "app": own.app,
        "version": own.version,
        "canonical_service": own.canonical_name,
        "canonical_revision": own.canonical_revision,
        "cluster": own.cluster,
    }
    labels = {
        name: _first(
            f"UPSTREAM_METADATA(lateen:{key})",
            otherwise="latest" if name == "canonical_revision" else "unknown",
        )
        for name, key in keys.items()
    }
    return {**labels, "principal": _first("UPSTREAM_PEER_URI_SAN")}


def _service(chain: Chain, *, http: bool) -> dict[str, str]:
    host = "METADATA(CLUSTER:istio:service_host)"
    name = "METADATA(CLUSTER:istio:service_name)"
    if chain.reporter is Reporter.DESTINATION:
        own = "ENVIRONMENT(LATEEN_CANONICAL_NAME)"
        return {
            "destination_service": _first(host, own),
            "destination_service_name": _first(name, own),
            "destination_service_namespace": "%ENVIRONMENT(LATEEN_NAMESPACE)%",
        }
    asked = ("REQ(:AUTHORITY)",) if http and not chain.gateway else ()
    route = ("METADATA(ROUTE:istio:service_name)",) if http else ()
    return {
        "destination_service": _first(host, *asked),
        "destination_service_name": _first(name, *route),
        "destination_service_namespace": _first("METADATA(CLUSTER:istio:service_namespace)"),
    }


def _first(*operators: str, otherwise: str = "unknown") -> str:
    """The first operator that yields something, else a constant."""
    entries: list[Any] = []
    for operator in (*operators, f"CEL('{otherwise}')"):
        command, _, parameter = operator.partition("(")
        if parameter:
            entries.append({"command": command, "param": parameter[:-1]})
        else:
            entries.append(command)
    return f"%COALESCE({json.dumps({'operators': entries}, separators=(',', ':'))})%"


def _tag(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value_format": value}


def _transform(value: str) -> dict[str, Any]:
    action = "envoy.extensions.matching.actions.transform_stat.v3.TransformStat"
    return {
        "action": {
            "name": "transform",
            "typed_config": {
                "@type": TYPE_PREFIX + action,
                "update_tag": {"new_tag_value": value},
            },
        }
    }


_GRPC_OR_HTTP: dict[str, Any] = {
    "matcher_list": {
        "matchers": [
            {
                "predicate": {
                    "single_predicate": {
                        "input": {
                            "name": "tag",
                            "typed_config": {
                                "@type": TYPE_PREFIX
                                + "envoy.extensions.matching.common_inputs.stats.v3"
                                ".StatTagValueInput"
                            },
                        },
                        "value_match": {"prefix": "application/grpc"},
                    }
                },
                "on_match": _transform("grpc"),
            }
        ]
    },
    "on_no_match": _transform("http"),
}
