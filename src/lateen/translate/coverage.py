"""What of each kind has an effect: the one place that knows, and the warnings that follow.

`FIELDS` lists every field of every message that translation reads, so that a new field in the API
has to be put here (a test compares). `WITHOUT_EFFECT` and `NOT_ENFORCED` are the kinds that are
accepted only.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lateen.api.findings import FieldPath, Finding
from lateen.api.networking import destination_rule as dr
from lateen.api.networking import gateway as gw
from lateen.api.networking import sidecar as sc
from lateen.api.networking import virtual_service as vs
from lateen.api.resource import Resource
from lateen.api.rule import Rule
from lateen.model import kinds
from lateen.model.kinds import GroupKind
from lateen.model.proxy import ProxyType
from lateen.model.selection import selects, workload_selector
from lateen.translate import registry_fields, rules, traffic_fields
from lateen.translate.fields import Fields
from lateen.translate.fields import fields as _fields
from lateen.translate.gateway_servers import groups
from lateen.translate.view import View

_DEPRECATED = "Istio ignores it as well"

FIELDS: dict[type, Fields] = {
    vs.StringMatch: _fields("exact prefix regex"),
    vs.Percent: _fields("value"),
    vs.PortSelector: _fields("number"),
    vs.Destination: _fields("host subset port"),
    vs.HeaderOperations: _fields("set add remove"),
    vs.Headers: _fields("request response"),
    vs.HTTPMatchRequest: _fields(
        "name uri scheme method authority headers port source_labels gateways query_params "
        "ignore_uri_case without_headers source_namespace stat_prefix"
    ),
    vs.HTTPRouteDestination: _fields("destination weight headers"),
    vs.RouteDestination: _fields("destination weight"),
    vs.HTTPRedirect: _fields("uri prefix_rewrite authority port derive_port scheme redirect_code"),
    vs.HTTPBody: _fields("string bytes"),
    vs.HTTPDirectResponse: _fields("status body"),
    vs.RegexRewrite: _fields("match rewrite"),
    vs.HTTPRewrite: _fields("uri authority uri_regex_rewrite"),
    vs.HTTPRetry: _fields(
        "attempts per_try_timeout retry_on retry_remote_localities retry_ignore_previous_hosts "
        "backoff"
    ),
    vs.CorsPolicy: _fields(
        "allow_origin allow_origins allow_methods allow_headers expose_headers max_age "
        "allow_credentials unmatched_preflights"
    ),
    vs.FaultDelay: _fields(
        "percent fixed_delay percentage", exponential_delay="delays are fixed only"
    ),
    vs.FaultAbort: _fields(
        "percent http_status grpc_status percentage", http2_error="aborts answer with a status"
    ),
    vs.HTTPFaultInjection: _fields("delay abort"),
    vs.HTTPMirrorPolicy: _fields("destination percentage"),
    vs.Delegate: _fields("name namespace"),
    vs.HTTPRoute: _fields(
        "name match route redirect direct_response delegate rewrite timeout retries fault mirror "
        "mirrors mirror_percent mirror_percentage cors_policy headers websocket_upgrade"
    ),
    vs.TLSMatchAttributes: _fields(
        "sni_hosts destination_subnets port source_labels gateways source_namespace"
    ),
    vs.TLSRoute: _fields("match route"),
    vs.L4MatchAttributes: _fields(
        "destination_subnets port source_labels gateways source_namespace",
        source_subnet=_DEPRECATED,
    ),
    vs.TCPRoute: _fields("match route"),
    vs.VirtualServiceSpec: _fields("hosts gateways http tls tcp export_to"),
    dr.HTTPCookieAttribute: _fields("name value"),
    dr.HTTPCookie: _fields("name path ttl attributes"),
    dr.RingHash: _fields("minimum_ring_size"),
    dr.MagLev: _fields("table_size"),
    dr.ConsistentHashLB: _fields(
        "http_header_name http_cookie use_source_ip http_query_parameter_name ring_hash maglev "
        "minimum_ring_size"
    ),
    dr.Distribute: _fields("from_ to"),
    dr.Failover: _fields("from_ to"),
    dr.LocalityLbSetting: _fields("distribute failover failover_priority enabled"),
    dr.ZoneAwareLbSetting: _fields(
        "",
        enabled="zone-aware routing is not done",
        min_cluster_size="zone-aware routing is not done",
        failover="zone-aware routing is not done",
        failover_priority="zone-aware routing is not done",
    ),
    dr.WarmupConfiguration: _fields("duration minimum_percent aggression"),
    dr.LoadBalancerSettings: _fields(
        "simple consistent_hash locality_lb_setting warmup_duration_secs warmup",
        zone_aware_lb_setting="zone-aware routing is not done",
    ),
    dr.TcpKeepalive: _fields("probes time interval"),
    dr.TCPSettings: _fields(
        "max_connections connect_timeout tcp_keepalive max_connection_duration idle_timeout"
    ),
    dr.Http2KeepAlive: _fields("interval timeout"),
    dr.HTTPSettings: _fields(
        "http1_max_pending_requests http2_max_requests max_requests_per_connection max_retries "
        "idle_timeout h2_upgrade_policy use_client_protocol max_concurrent_streams "
        "http2_keep_alive"
    ),
    dr.ConnectionPoolSettings: _fields("tcp http"),
    dr.OutlierDetection: _fields(
        "split_external_local_origin_errors consecutive_local_origin_failures "
        "consecutive_gateway_errors consecutive_5xx_errors interval base_ejection_time "
        "max_ejection_percent min_health_percent",
        consecutive_errors=_DEPRECATED,
        outlier_detection_http_error_codes="only 5xx and gateway errors count",
    ),
    dr.ClientTLSSettings: _fields(
        "mode client_certificate private_key ca_certificates credential_name subject_alt_names "
        "sni insecure_skip_verify ca_crl"
    ),
    dr.TunnelSettings: _fields("protocol target_host target_port"),
    dr.ProxyProtocol: _fields("version"),
    dr.RetryBudget: _fields(
        "percent min_retry_concurrency", budget_interval="budgets follow the active requests"
    ),
    dr.PortTrafficPolicy: _fields("port load_balancer connection_pool outlier_detection tls"),
    dr.TrafficPolicy: _fields(
        "load_balancer connection_pool outlier_detection tls port_level_settings tunnel "
        "proxy_protocol retry_budget"
    ),
    dr.Subset: _fields("name labels traffic_policy"),
    dr.DestinationRuleSpec: _fields("host traffic_policy subsets export_to workload_selector"),
    gw.TLSCertificate: _fields(
        "server_certificate private_key", ca_certificates="the server's caCertificates is used"
    ),
    gw.ServerTLSSettings: _fields(
        "https_redirect mode server_certificate private_key ca_certificates credential_name "
        "credential_names ca_cert_credential_name tls_certificates subject_alt_names "
        "verify_certificate_spki verify_certificate_hash min_protocol_version "
        "max_protocol_version cipher_suites ecdh_curves insecure_skip_verify",
        ca_crl="revocation lists of clients are not read",
    ),
    gw.Port: _fields("number protocol name", target_port=_DEPRECATED),
    gw.Server: _fields(
        "port bind hosts tls name",
        default_endpoint=_DEPRECATED,
    ),
    gw.GatewaySpec: _fields("servers selector"),
    sc.SidecarPort: _fields("number protocol name", target_port=_DEPRECATED),
    sc.IstioIngressListener: _fields(
        "port default_endpoint connection_pool",
        bind="traffic is captured on every address",
        capture_mode="traffic is always captured",
        tls="inbound TLS is the mesh's",
    ),
    sc.IstioEgressListener: _fields("port bind hosts capture_mode"),
    sc.OutboundTrafficPolicy: _fields("mode egress_proxy"),
    sc.SidecarSpec: _fields(
        "workload_selector ingress egress inbound_connection_pool outbound_traffic_policy"
    ),
    **registry_fields.FIELDS,
}
"""Every message that translation reads, with its fields by their Python names."""

WITHOUT_EFFECT: dict[GroupKind, str] = {
    kinds.ENVOY_FILTER: "the proxies' configuration is not patched",
    kinds.TELEMETRY: "metrics, logs and traces keep their defaults",
    kinds.WASM_PLUGIN: "the extension is not loaded",
    kinds.TRAFFIC_EXTENSION: "the extension is not loaded",
}
"""Kinds that are accepted only, and what therefore stays as it is."""

NOT_ENFORCED: dict[GroupKind, str] = {
    kinds.AUTHORIZATION_POLICY: "requests that it denies are let through",
    kinds.REQUEST_AUTHENTICATION: "tokens are not checked and their claims are unknown",
}
"""Security policies that are accepted only, and what therefore gets through."""


def findings(view: View) -> Iterator[Finding]:
    """One finding per object that applies to the scope and does less than it says."""
    for kind, consequence in NOT_ENFORCED.items():
        yield from _kind_findings(view, kind, rules.NOT_ENFORCED, consequence)
    for kind, consequence in WITHOUT_EFFECT.items():
        yield from _kind_findings(view, kind, rules.NO_EFFECT_YET, consequence)
    for resource in _applying(view):
        yield from resource_findings(resource)
    yield from _ignored_credentials(view)


def _ignored_credentials(view: View) -> Iterator[Finding]:
    """Credentials by name that sidecars do not get (they have no right to read Secrets)."""
    if view.scope.type is not ProxyType.SIDECAR:
        return
    for service in view.services:
        rule = view.rule(service)
        if rule is None or rule.has_workload_selector or rule.policy_source is None:
            continue
        policy = rule.traffic_policy
        if policy is None:
            continue
        for path, tls in (
            (("spec", "trafficPolicy", "tls"), policy.tls),
            *(
                (("spec", "trafficPolicy", "portLevelSettings", index, "tls"), entry.tls)
                for index, entry in enumerate(policy.port_level_settings)
            ),
        ):
            if tls is None or not tls.credential_name or "configmap://" in tls.credential_name:
                continue
            yield rules.finding(
                rules.NO_EFFECT_YET,
                rule.policy_source.key,
                rule.policy_source.provenance,
                (*path, "credentialName"),
                "sidecars do not use credentialName unless the rule has a workloadSelector; "
                "servers are verified with the operating system's certificates",
                "Add a workloadSelector, or name files.",
            )


def resource_findings(resource: Resource) -> tuple[Finding, ...]:
    """Fields of ``resource`` that are set and have no effect, and values that have none."""
    found = [
        rules.finding(
            rules.NO_EFFECT_YET,
            resource.key,
            resource.provenance,
            each.path,
            each.message,
            each.hint,
        )
        for each in (*registry_fields.ignored(resource), *traffic_fields.ignored(resource))
    ]
    spec = getattr(resource.object, "spec", None)
    if not isinstance(spec, msgspec.Struct):
        return tuple(found)
    return tuple(found) + tuple(
        rules.finding(
            rules.NO_EFFECT_YET,
            resource.key,
            resource.provenance,
            path,
            f"{path[-1]} has no effect: {reason}",
            "Remove it, or do not rely on it.",
        )
        for path, reason in _unused(spec, ("spec",))
    )


def _unused(message: msgspec.Struct, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    known = FIELDS.get(type(message))
    if known is None:
        return
    without = dict(known.without)
    for field in msgspec.structs.fields(message):
        value = getattr(message, field.name)
        if _is_default(field, value):
            continue
        here = (*path, field.encode_name)
        if field.name in without:
            yield here, without[field.name]
        elif isinstance(value, msgspec.Struct):
            yield from _unused(value, here)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    yield from _unused(item, (*here, index))


def _is_default(field: msgspec.structs.FieldInfo, value: object) -> bool:
    if field.default is not msgspec.NODEFAULT:
        return bool(value == field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return bool(value == field.default_factory())
    return False


def _applying(view: View) -> Iterator[Resource]:
    """Objects of the kinds in `FIELDS` that shape this scope, each once."""
    seen: dict[int, Resource] = {}
    routings = list(view.routings) if view.scope.type is ProxyType.SIDECAR else []
    if view.scope.type is not ProxyType.SIDECAR:
        for group in groups(view):
            for server in group.servers:
                seen[id(server.resource)] = server.resource
                routings += view.gateway_routings(server.gateway)
    for routing in routings:
        for resource in (routing.resource, *routing.delegates):
            seen[id(resource)] = resource
    for service in view.services:
        rule = view.rule(service)
        if rule is not None:
            for resource in rule.sources:
                seen[id(resource)] = resource
    sidecar = view.sidecar_scope.resource
    if sidecar is not None:
        seen[id(sidecar)] = sidecar
    yield from seen.values()


def _kind_findings(view: View, kind: GroupKind, rule: Rule, consequence: str) -> Iterator[Finding]:
    labels = view.scope.label_map
    for namespace in dict.fromkeys((view.snapshot.root_namespace, view.scope.namespace)):
        for _, resource in sorted(view.snapshot.in_namespace(*kind, namespace).items()):
            if selects(workload_selector(resource.object) or {}, labels):
                yield rules.finding(
                    rule,
                    resource.key,
                    resource.provenance,
                    (),
                    f"{resource.key.kind} applies here but has no effect in this version: "
                    f"{consequence}",
                    "Do not rely on it.",
                )
