"""Route configurations: Envoy ``RouteConfiguration``."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.config.route.v3 import route_pb2 as configuration_pb2
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import regex_pb2
from google.protobuf import any_pb2

from lateen.envoy import matches, metadata, tls, values
from lateen.envoy.fragments import Fragments
from lateen.ir.route import (
    Cors,
    DirectResponse,
    Fault,
    Forward,
    HashPolicy,
    HeaderOperations,
    HeaderValue,
    NoAction,
    Redirect,
    RetryPolicy,
    Route,
    RouteConfiguration,
    VirtualHost,
    WeightedCluster,
)

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"
_SERVICE_OF_VIRTUAL_HOST = {
    "block_all": "BlackHoleCluster",
    "allow_any": "PassthroughCluster",
    "allow_any_dynamic_dns": "AllowAnyDynamicDNSCluster",
}
_APPEND = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_REDIRECTS = {
    301: route_pb2.RedirectAction.MOVED_PERMANENTLY,
    302: route_pb2.RedirectAction.FOUND,
    303: route_pb2.RedirectAction.SEE_OTHER,
    307: route_pb2.RedirectAction.TEMPORARY_REDIRECT,
    308: route_pb2.RedirectAction.PERMANENT_REDIRECT,
}


def route_configuration(source: RouteConfiguration) -> configuration_pb2.RouteConfiguration:
    """``RouteConfiguration``. Cluster references are not checked: clusters may come later."""
    result = _settings(source)
    result.virtual_hosts.extend(_virtual_host(host) for host in source.virtual_hosts)
    return result


def route_configuration_bytes(source: RouteConfiguration) -> bytes:
    """`route_configuration`, serialised; virtual hosts that did not change are not made again."""
    body: bytes = _settings(source).SerializeToString(deterministic=True)
    return with_hosts(body, (_named(host.name, host) for host in source.virtual_hosts))


def discovered_bytes(source: RouteConfiguration) -> bytes:
    """A ``RouteConfiguration`` whose virtual hosts are asked for from the control plane."""
    body: bytes = _settings(source).SerializeToString(deterministic=True)
    return body + _vhds()


def host_name(configuration: str, virtual_host: str) -> str:
    """Resource name of a virtual host: Envoy tells the route configuration by what is before the
    last slash (VHDS, "Virtual host resource naming convention")."""
    return f"{configuration}/{virtual_host}"


def discovered_host_bytes(configuration: str, source: VirtualHost) -> bytes:
    """A ``VirtualHost`` as a resource of its own. Envoy removes it by its own name, not that of the
    resource, so both have to be the same."""
    return _named(host_name(configuration, source.name), source)


def with_hosts(configuration: bytes, hosts: Iterable[bytes]) -> bytes:
    """A discovered ``RouteConfiguration`` put together with its virtual hosts."""
    own = configuration.removesuffix(_vhds())
    return own + b"".join(values.delimited(_FIELD_HOSTS, host) for host in hosts)


@functools.cache
def _vhds() -> bytes:
    part = configuration_pb2.RouteConfiguration()
    part.vhds.config_source.CopyFrom(tls.ads())
    body: bytes = part.SerializeToString(deterministic=True)
    return body


def _named(name: str, source: VirtualHost) -> bytes:
    return values.delimited(_FIELD_HOST_NAME, name.encode()) + _hosts.get(source)


def _host_bytes(source: VirtualHost) -> bytes:
    """All but the name, which is not the same everywhere."""
    host = _virtual_host(source)
    host.ClearField("name")
    body: bytes = host.SerializeToString(deterministic=True)
    return body


_hosts: Fragments[VirtualHost] = Fragments(_host_bytes)
_FIELD_HOSTS = configuration_pb2.RouteConfiguration.DESCRIPTOR.fields_by_name[
    "virtual_hosts"
].number
_FIELD_HOST_NAME = route_pb2.VirtualHost.DESCRIPTOR.fields_by_name["name"].number


def _settings(source: RouteConfiguration) -> configuration_pb2.RouteConfiguration:
    result = configuration_pb2.RouteConfiguration(
        name=source.name,
        validate_clusters=values.boolean(False),
        ignore_port_in_host_matching=source.ignore_port_in_host,
        max_direct_response_body_size_bytes=values.uint32(1048576),
    )
    about = metadata.part(source.origins)
    if about is not None:
        result.metadata.CopyFrom(about)
    return result


def _virtual_host(source: VirtualHost) -> route_pb2.VirtualHost:
    result = route_pb2.VirtualHost(
        name=source.name,
        domains=source.domains,
        routes=[_route(route, source.name) for route in source.routes],
        include_request_attempt_count=source.count_attempts,
    )
    if source.require_tls:
        result.require_tls = route_pb2.VirtualHost.ALL
    if source.origins and not source.routes:  # its routes say where they come from
        result.metadata.CopyFrom(metadata.metadata(lateen=metadata.origins(source.origins)))
    return result


def _route(source: Route, virtual_host: str) -> route_pb2.Route:
    result = route_pb2.Route(
        name=source.name,
        match=matches.route_match(source.match),
        stat_prefix=source.stat_prefix,
    )
    _set_action(result, source)
    if source.operation:
        result.decorator.operation = source.operation
    if source.headers:
        _set_headers(result, source.headers)
    if source.fault is not None:
        result.typed_per_filter_config[FAULT_FILTER].CopyFrom(_fault(source.fault))
    if source.cors is not None:
        result.typed_per_filter_config[CORS_FILTER].CopyFrom(_cors(source.cors))
    about = metadata.part(source.origins)
    service = _SERVICE_OF_VIRTUAL_HOST.get(virtual_host)
    if service is not None:
        about = about or base_pb2.Metadata()
        fields = about.filter_metadata[metadata.ISTIO].fields
        fields["service_name"].string_value = service
    if about is not None:
        result.metadata.CopyFrom(about)
    return result


def _set_action(target: route_pb2.Route, source: Route) -> None:
    match source.action:
        case Forward() as forward:
            target.route.CopyFrom(_forward(forward))
        case Redirect() as redirect:
            target.redirect.CopyFrom(_redirect(redirect))
        case DirectResponse(status=status, body=body):
            target.direct_response.status = status
            if body:
                target.direct_response.body.inline_bytes = body
        case NoAction():
            target.direct_response.status = 404


def _forward(source: Forward) -> route_pb2.RouteAction:
    action = route_pb2.RouteAction(
        timeout=values.duration(source.timeout),
        prefix_rewrite=source.prefix_rewrite,
        append_x_forwarded_host=source.append_forwarded_host,
        hash_policy=[hash_policy(policy) for policy in source.hash_policies],
    )
    only = source.clusters[0] if len(source.clusters) == 1 else None
    if only is not None and not only.headers and not only.host_rewrite:
        action.cluster = only.cluster
    else:
        action.weighted_clusters.CopyFrom(
            route_pb2.WeightedCluster(clusters=[_weighted(entry) for entry in source.clusters])
        )
    # The client's grpc-timeout counts, up to the route's own timeout (0: without a limit). Its
    # successor, `max_stream_duration`, would make Envoy ignore `timeout` for every request.
    action.max_grpc_timeout.CopyFrom(values.duration(source.timeout))
    if source.regex_rewrite is not None:
        pattern, substitution = source.regex_rewrite
        action.regex_rewrite.CopyFrom(
            regex_pb2.RegexMatchAndSubstitute(
                pattern=matches.regex(pattern), substitution=substitution
            )
        )
    if source.host_rewrite:
        action.host_rewrite_literal = source.host_rewrite
    elif source.auto_host_rewrite:
        action.auto_host_rewrite.CopyFrom(values.boolean(True))
    if source.retry is not None:
        action.retry_policy.MergeFromString(_retry(source.retry))
    for mirror in source.mirrors:
        entry = action.request_mirror_policies.add(
            cluster=mirror.cluster,
            disable_shadow_host_suffix_append=True,
            # A mirrored request is no part of the trace of the request that it copies.
            trace_sampled=values.boolean(False),
        )
        entry.runtime_fraction.default_value.CopyFrom(values.per_million(mirror.percent))
    if source.cluster_not_found_code != 503:
        action.cluster_not_found_response_code = (
            route_pb2.RouteAction.NOT_FOUND
            if source.cluster_not_found_code == 404
            else route_pb2.RouteAction.INTERNAL_SERVER_ERROR
        )
    if not source.websocket:
        action.upgrade_configs.add(upgrade_type="websocket", enabled=values.boolean(False))
    return action


def _weighted(source: WeightedCluster) -> route_pb2.WeightedCluster.ClusterWeight:
    result = route_pb2.WeightedCluster.ClusterWeight(
        name=source.cluster,
        weight=values.uint32(source.weight),
        host_rewrite_literal=source.host_rewrite,
    )
    if source.headers:
        _set_headers(result, source.headers)
    return result


def _set_headers(
    target: route_pb2.Route | route_pb2.WeightedCluster.ClusterWeight, source: HeaderOperations
) -> None:
    target.request_headers_to_add.extend(
        [*_headers(source.request_set, _OVERWRITE), *_headers(source.request_add, _APPEND)]
    )
    target.request_headers_to_remove.extend(source.request_remove)
    target.response_headers_to_add.extend(
        [*_headers(source.response_set, _OVERWRITE), *_headers(source.response_add, _APPEND)]
    )
    target.response_headers_to_remove.extend(source.response_remove)


def _headers(source: tuple[HeaderValue, ...], action: int) -> list[base_pb2.HeaderValueOption]:
    return [
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=header.name, value=header.value),
            append_action=action,
        )
        for header in source
    ]


@functools.lru_cache(maxsize=1024)
def _retry(source: RetryPolicy) -> bytes:
    policy = route_pb2.RetryPolicy(
        retry_on=source.retry_on,
        num_retries=values.uint32(source.attempts),
        retriable_status_codes=source.status_codes,
        host_selection_retry_max_attempts=source.host_selection_attempts,
    )
    if source.per_try_timeout is not None:
        policy.per_try_timeout.CopyFrom(values.duration(source.per_try_timeout))
    if source.base_interval is not None:
        policy.retry_back_off.base_interval.CopyFrom(values.duration(source.base_interval))
    if source.previous_hosts:
        policy.retry_host_predicate.add(
            name="previous_hosts",
            typed_config=values.pack(previous_hosts_pb2.PreviousHostsPredicate()),
        )
    if source.previous_priorities:
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(
            values.pack(previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2))
        )
    result: bytes = policy.SerializeToString(deterministic=True)
    return result


def hash_policy(source: HashPolicy) -> route_pb2.RouteAction.HashPolicy:
    """``RouteAction.HashPolicy``."""
    policy = route_pb2.RouteAction.HashPolicy()
    if source.header:
        policy.header.header_name = source.header
    elif source.cookie:
        policy.cookie.name = source.cookie
        policy.cookie.path = source.cookie_path
        if source.cookie_ttl is not None:
            policy.cookie.ttl.CopyFrom(values.duration(source.cookie_ttl))
        for name, value in source.cookie_attributes:
            policy.cookie.attributes.add(name=name, value=value)
    elif source.query_parameter:
        policy.query_parameter.name = source.query_parameter
    else:
        policy.connection_properties.source_ip = source.source_ip
    return policy


def _redirect(source: Redirect) -> route_pb2.RedirectAction:
    action = route_pb2.RedirectAction(
        response_code=_REDIRECTS[source.code],
        host_redirect=source.host,
        port_redirect=source.port,
    )
    if source.scheme:
        action.scheme_redirect = source.scheme
    if source.path:
        action.path_redirect = source.path
    elif source.prefix_rewrite:
        action.prefix_rewrite = source.prefix_rewrite
    return action


@functools.lru_cache(maxsize=1024)
def _fault(source: Fault) -> any_pb2.Any:
    config = fault_pb2.HTTPFault()
    if source.delay and source.delay_percent:
        config.delay.CopyFrom(
            common_fault_pb2.FaultDelay(
                fixed_delay=values.duration(source.delay),
                percentage=values.per_million(source.delay_percent),
            )
        )
    if source.abort_percent and (source.abort_http or source.abort_grpc is not None):
        config.abort.percentage.CopyFrom(values.per_million(source.abort_percent))
        if source.abort_grpc is not None:
            config.abort.grpc_status = source.abort_grpc
        else:
            config.abort.http_status = source.abort_http
    return values.pack(config)


@functools.lru_cache(maxsize=1024)
def _cors(source: Cors) -> any_pb2.Any:
    policy = cors_pb2.CorsPolicy(
        allow_origin_string_match=[matches.string(origin) for origin in source.allow_origins],
        allow_methods=",".join(source.allow_methods),
        allow_headers=",".join(source.allow_headers),
        expose_headers=",".join(source.expose_headers),
        max_age="" if source.max_age is None else str(source.max_age),
        forward_not_matching_preflights=values.boolean(source.forward_not_matching_preflights),
    )
    if source.allow_credentials is not None:
        policy.allow_credentials.CopyFrom(values.boolean(source.allow_credentials))
    policy.filter_enabled.default_value.CopyFrom(values.per_million(100.0))
    return values.pack(policy)
