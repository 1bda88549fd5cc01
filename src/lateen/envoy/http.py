"""HTTP connection managers and their filters (Envoy ``HttpConnectionManager``)."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from lateen.envoy import dynamic_hosts, peers, protos, routes, telemetry, tls, values
from lateen.envoy.protos import TYPE_PREFIX
from lateen.ir.listener import HttpConnectionManager, Reporter
from lateen.ir.route import RouteConfiguration

_NAME = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HCM = hcm_pb2.HttpConnectionManager
_FIELD_ROUTES = _HCM.DESCRIPTOR.fields_by_name["route_config"].number
_FILTERS = "envoy.extensions.filters.http"

_COUNT_GRPC_MESSAGES = """
local counts = "envoy.filters.http.grpc_stats"
function envoy_on_response(handle)
  handle:trailers()
  local info = handle:streamInfo()
  local state = info:filterState():get(counts)
  if state == nil then return end
  local requests, responses = string.match(tostring(state), "(%d+),(%d+)")
  local target = info:dynamicMetadata()
  target:set("istio.grpc", "req", tonumber(requests))
  target:set("istio.grpc", "resp", tonumber(responses))
end
"""


def connection_manager(source: HttpConnectionManager) -> bytes:
    """Serialised ``HttpConnectionManager``."""
    gateway = source.use_remote_address
    grpc = source.codec != "HTTP1" and source.telemetry.metrics
    common, routing = source, b""
    if source.routes is not None:
        common = msgspec.structs.replace(source, routes=None, route_name="")
        routing = _inline(source.routes)
    return b"".join(
        (
            _own(common),
            routing,
            telemetry.http_loggers(source.telemetry, gateway=gateway, grpc=grpc),
            _on_demand() if source.on_demand else b"",
            _filters(source.telemetry.reporter, source.upstream_alpn, grpc, source.resolve_hosts),
        )
    )


def _inline(source: RouteConfiguration) -> bytes:
    return values.delimited(_FIELD_ROUTES, routes.route_configuration_bytes(source))


@functools.lru_cache(maxsize=4096)
def _own(source: HttpConnectionManager) -> bytes:
    """What does not depend on routes that are within: managers of a port differ in nothing else."""
    own = _HCM(
        stat_prefix=source.stat_prefix,
        codec_type=getattr(_HCM, source.codec),
        server_name=source.server_name,
        use_remote_address=values.boolean(source.use_remote_address),
        xff_num_trusted_hops=source.trusted_hops,
        forward_client_cert_details=getattr(_HCM, source.forward_client_certificate),
        normalize_path=values.boolean(source.normalize_path),
        merge_slashes=source.merge_slashes,
        proxy_100_continue=True,
        # Decorates responses with x-envoy-decorator-operation; samples nothing by itself.
        tracing=_no_sampling(),
    )
    if source.decode_slashes:
        own.path_with_escaped_slashes_action = _HCM.UNESCAPE_AND_FORWARD
    if source.route_name:
        own.rds.CopyFrom(hcm_pb2.Rds(config_source=tls.ads(), route_config_name=source.route_name))
    if source.client_certificate_details or source.use_remote_address:
        details = own.set_current_client_cert_details
        details.subject.CopyFrom(values.boolean(True))
        details.dns = True
        details.uri = True
        details.cert = source.use_remote_address
    if source.stream_idle_timeout is not None:
        own.stream_idle_timeout.CopyFrom(values.duration(source.stream_idle_timeout))
    if source.idle_timeout is not None:
        own.common_http_protocol_options.idle_timeout.CopyFrom(values.duration(source.idle_timeout))
    if source.request_timeout is not None:
        own.request_timeout.CopyFrom(values.duration(source.request_timeout))
    if source.request_headers_timeout is not None:
        own.request_headers_timeout.CopyFrom(values.duration(source.request_headers_timeout))
    if source.http1_accept_http10:
        own.http_protocol_options.accept_http_10 = True
    if source.websocket:
        own.upgrade_configs.add(upgrade_type="websocket")
    body: bytes = own.SerializeToString(deterministic=True)
    return body


@functools.cache
def _no_sampling() -> Any:  # noqa: ANN401 - a generated message
    tracing = _HCM.Tracing()
    for share in (tracing.client_sampling, tracing.random_sampling, tracing.overall_sampling):
        share.value = 0.0
        share.SetInParent()
    return tracing


@functools.cache
def _on_demand() -> bytes:
    """Fetches clusters when they are first used; before all filters that look at the cluster."""
    config = values.on_demand_source()
    found = _filter(
        "envoy.filters.http.on_demand", f"{_FILTERS}.on_demand.v3.OnDemand", odcds=config
    )
    return protos.from_dict(_NAME, {"http_filters": [found]})


@functools.cache
def _filters(reporter: Reporter, upstream_alpn: bool, grpc: bool, resolve_hosts: str) -> bytes:
    filters: list[Any] = []
    if grpc:
        filters = [_only_grpc("lateen.grpc_messages", _lua()), _grpc_counts()]
    if upstream_alpn:
        filters.append(
            protos.to_dict(
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
                peers.http_alpn_filter(),
            )
        )
    if reporter is Reporter.SOURCE:
        filters += [
            _filter(routes.FAULT_FILTER, f"{_FILTERS}.fault.v3.HTTPFault"),
            _filter(routes.CORS_FILTER, f"{_FILTERS}.cors.v3.Cors"),
        ]
    if resolve_hosts:
        filters.append(dynamic_hosts.http_filter(resolve_hosts))
    filters.append(_filter("envoy.filters.http.router", f"{_FILTERS}.router.v3.Router"))
    return protos.from_dict(_NAME, {"http_filters": filters})


def _filter(name: str, message: str, **config: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"name": name, "typed_config": {"@type": TYPE_PREFIX + message, **config}}


def _grpc_counts() -> dict[str, Any]:
    return _filter(
        "envoy.filters.http.grpc_stats",
        f"{_FILTERS}.grpc_stats.v3.FilterConfig",
        emit_filter_state=True,
        stats_for_all_methods=False,
    )


def _lua() -> dict[str, Any]:
    source = {"inline_string": _COUNT_GRPC_MESSAGES}
    return {"@type": TYPE_PREFIX + f"{_FILTERS}.lua.v3.Lua", "default_source_code": source}


def _only_grpc(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """A filter that other requests than gRPC skip (Envoy ``ExtensionWithMatcher``)."""
    skip = TYPE_PREFIX + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"
    content_type = {
        "name": "content-type",
        "typed_config": {
            "@type": TYPE_PREFIX + "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": "content-type",
        },
    }
    is_grpc = {
        "single_predicate": {
            "input": content_type,
            "value_match": {"prefix": "application/grpc"},
        }
    }
    return {
        "name": name,
        "typed_config": {
            "@type": TYPE_PREFIX + "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "extension_config": {"name": "envoy.filters.http.lua", "typed_config": config},
            "xds_matcher": {
                "matcher_list": {
                    "matchers": [
                        {
                            "predicate": {"not_matcher": is_grpc},
                            "on_match": {
                                "action": {"name": "skip", "typed_config": {"@type": skip}}
                            },
                        }
                    ]
                }
            },
        },
    }
