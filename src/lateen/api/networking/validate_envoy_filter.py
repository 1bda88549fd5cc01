"""EnvoyFilter: applyTo, match and patch fit each other. Values are checked where Envoy is known."""

from __future__ import annotations

import re2

from lateen.api.findings import FieldPath
from lateen.api.networking.checks import check_one_of, check_selector
from lateen.api.networking.envoy_filter import (
    ConfigObjectMatch,
    ConfigPatch,
    EnvoyFilter,
    FilterMatch,
    Patch,
)
from lateen.api.networking.rules import DEPRECATED, ONE_OF, PATCH, RISKY
from lateen.api.report import Report

_MAX_PORT = 65535
_HCM = "envoy.filters.network.http_connection_manager"
_OLD_HCM = "envoy.http_connection_manager"
_LISTENER_CLASS = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
_ROUTE_CLASS = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_NEW_NAMES = {
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.csrf": "envoy.filters.http.csrf",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.grpc_http1_bridge": "envoy.filters.http.grpc_http1_bridge",
    "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
    "envoy.grpc_web": "envoy.filters.http.grpc_web",
    "envoy.gzip": "envoy.filters.http.gzip",
    "envoy.health_check": "envoy.filters.http.health_check",
    "envoy.http_connection_manager": _HCM,
    "envoy.ip_tagging": "envoy.filters.http.ip_tagging",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
    "envoy.ratelimit": "envoy.filters.network.ratelimit",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.squash": "envoy.filters.http.squash",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.client_ssl_auth": "envoy.filters.network.client_ssl_auth",
    "envoy.echo": "envoy.filters.network.echo",
    "envoy.listener.http_inspector": "envoy.filters.listener.http_inspector",
    "envoy.listener.original_dst": "envoy.filters.listener.original_dst",
    "envoy.listener.original_src": "envoy.filters.listener.original_src",
    "envoy.listener.proxy_protocol": "envoy.filters.listener.proxy_protocol",
    "envoy.listener.tls_inspector": "envoy.filters.listener.tls_inspector",
}


def validate_envoy_filter(obj: EnvoyFilter, report: Report) -> None:
    """Every patch, and the general warning that upgrades may break it."""
    report.warn(
        RISKY,
        (),
        "EnvoyFilter exposes internal implementation details that may change at any time; "
        "prefer other APIs if possible",
    )
    spec = obj.spec
    labels = None if spec.workload_selector is None else spec.workload_selector.labels
    check_selector(labels, ("spec", "workloadSelector", "labels"), "Envoy filter", report)
    if spec.workload_selector is not None and spec.target_refs:
        message = "only one of targetRefs or workloadSelector can be set"
        report.error(ONE_OF, ("spec", "targetRefs"), message)
    for index, reference in enumerate(spec.target_refs):
        if reference.namespace:
            message = "cross namespace referencing is not currently supported"
            report.error(PATCH, ("spec", "targetRefs", index, "namespace"), message)
    for index, patch in enumerate(spec.config_patches):
        _config_patch(patch, ("spec", "configPatches", index), report)


def _config_patch(item: ConfigPatch, path: FieldPath, report: Report) -> None:
    if item.match is not None:
        _match_kinds(item.match, (*path, "match"), report)
    if item.match is not None and item.match.context == "WAYPOINT":
        return
    if item.apply_to == "INVALID":
        report.error(PATCH, (*path, "applyTo"), "Envoy filter: missing applyTo")
        return
    patch = item.patch
    if patch is None:
        report.error(PATCH, (*path, "patch"), "Envoy filter: missing patch")
        return
    if patch.operation == "INVALID":
        report.error(PATCH, (*path, "patch", "operation"), "Envoy filter: missing patch operation")
        return
    if patch.operation != "REMOVE" and patch.value is None:
        message = "Envoy filter: missing patch value for non-remove operation"
        report.error(PATCH, (*path, "patch", "value"), message)
        return
    if item.match is not None:
        _match(item, item.match, (*path, "match"), report)
    _value(patch, (*path, "patch", "value"), report)


def _match_kinds(match: ConfigObjectMatch, path: FieldPath, report: Report) -> None:
    kinds = {
        "listener": match.listener is not None,
        "routeConfiguration": match.route_configuration is not None,
        "cluster": match.cluster is not None,
        "waypoint": match.waypoint is not None,
    }
    check_one_of(kinds, path, report)
    if (match.context == "WAYPOINT") != (match.waypoint is not None):
        report.error(PATCH, path, "only support waypointMatch when context is WAYPOINT")
    port = 0 if match.waypoint is None else match.waypoint.port_number
    if port > _MAX_PORT:
        message = f"port must be between 1-65535, not {port}"
        report.error(PATCH, (*path, "waypoint", "portNumber"), message)


def _match(item: ConfigPatch, match: ConfigObjectMatch, path: FieldPath, report: Report) -> None:
    if match.proxy is not None and match.proxy.proxy_version:
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(match.proxy.proxy_version, options)
        except re2.error:
            message = "Envoy filter: invalid regex for proxy version"
            report.error(PATCH, (*path, "proxy", "proxyVersion"), message)
            return
    has_match = bool(match.listener or match.route_configuration or match.cluster)
    if item.apply_to in _LISTENER_CLASS and has_match:
        if match.listener is None:
            message = (
                "Envoy filter: applyTo for listener class objects cannot have non listener match"
            )
            report.error(PATCH, path, message)
        elif match.listener.filter_chain is not None:
            chain = match.listener.filter_chain
            here: FieldPath = (*path, "listener", "filterChain", "filter")
            if chain.filter is not None:
                _filter(item.apply_to, chain.filter, here, report)
    if item.apply_to in _ROUTE_CLASS and has_match and match.route_configuration is None:
        message = "Envoy filter: applyTo for http route class objects cannot have "
        report.error(PATCH, path, message + "non route configuration match")
    if item.apply_to == "CLUSTER" and has_match and match.cluster is None:
        message = "Envoy filter: applyTo for cluster class objects cannot have non cluster match"
        report.error(PATCH, path, message)


def _filter(apply_to: str, match: FilterMatch, path: FieldPath, report: Report) -> None:
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        message = f"Envoy filter: filter match has no effect when used with {apply_to}"
        report.warn(RISKY, path, message)
    if not match.name:
        report.error(PATCH, path, "Envoy filter: filter match has no name to match on")
        return
    sub = match.sub_filter
    if sub is not None:
        if apply_to != "HTTP_FILTER":
            message = "Envoy filter: subfilter match can be used with applyTo HTTP_FILTER only"
            report.error(PATCH, (*path, "subFilter"), message)
            return
        if match.name not in (_HCM, _OLD_HCM):
            message = f"Envoy filter: subfilter match requires filter match with {_HCM}"
            report.error(PATCH, (*path, "name"), message)
            return
        if not sub.name:
            message = "Envoy filter: subfilter match has no name to match on"
            report.error(PATCH, (*path, "subFilter"), message)
            return
    for name in (match.name, sub.name if sub is not None else ""):
        if name in _NEW_NAMES:
            message = f'using deprecated filter name "{name}"; use "{_NEW_NAMES[name]}" instead'
            report.warn(DEPRECATED, path, message)


def _value(patch: Patch, path: FieldPath, report: Report) -> None:
    """Types that Envoy has not known since 1.18, anywhere in the value."""
    stack: list[tuple[object, FieldPath]] = [(patch.value, path)]
    while stack:
        value, where = stack.pop()
        if isinstance(value, dict):
            name = value.get("@type")
            if isinstance(name, str) and ".v2." in name:
                message = f"referenced type unknown (hint: try using the v3 XDS API): {name}"
                report.error(PATCH, (*where, "@type"), message)
            stack += [(item, (*where, str(key))) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [(item, (*where, index)) for index, item in enumerate(value)]
