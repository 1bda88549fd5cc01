"""The control plane's own Prometheus metrics.

Istio's ``pilot_*`` names where they mean the same (so that its dashboards and alerts work), ours
beside them with the prefix ``lateen_``. Times are in seconds. Gauges that can be read off the mesh
when somebody asks are in `lateen.serve.mesh_metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from lateen.serve.tallies import TallyCounter, TallyHistogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TIMES = (0.001, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 5, 10, 20, 30)
_MAX_VERSIONS = 32
_BYTES = (1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 4e7)

PHASES = ("snapshot", "debounce", "scope", "translate", "difference", "send", "acknowledge")
"""A change on its way to a proxy: once per change set (snapshot, debounce, scope), once per scope
(translate, difference), once per proxy (send, acknowledge)."""

SHORT_NAMES = {
    "type.googleapis.com/envoy.config.cluster.v3.Cluster": "cds",
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment": "eds",
    "type.googleapis.com/envoy.config.listener.v3.Listener": "lds",
    "type.googleapis.com/envoy.config.route.v3.RouteConfiguration": "rds",
    "type.googleapis.com/envoy.config.route.v3.VirtualHost": "vhds",
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret": "sds",
    "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig": "ecds",
}


def short_name(type_url: str) -> str:
    """``cds``, ``eds`` ... for a type URL; ``other`` for types we do not serve."""
    return SHORT_NAMES.get(type_url, "other")


class TypeMetrics:
    """What is counted of each response, by type: looked up once."""

    __slots__ = ("bytes", "config_size", "push_time", "pushes", "resources")

    def __init__(self, metrics: Metrics, name: str) -> None:
        self.pushes = metrics.pushes.labels(name)
        self.bytes = metrics.bytes_sent.labels(name)
        self.resources = metrics.resources_sent.labels(name)
        self.config_size = metrics.config_size.labels(name)
        self.push_time = metrics.push_time.labels(name)


class Metrics:
    """All metrics of one control plane, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def count(name: str, text: str, *labels: str) -> TallyCounter:
            return TallyCounter(name, text, labels, registry)

        def times(name: str, text: str, *labels: str) -> TallyHistogram:
            return TallyHistogram(name, text, labels, _TIMES, registry)

        self.connected = gauge("pilot_xds", "Proxies connected by xDS", "version")
        self.pushes = count("pilot_xds_pushes", "Responses sent", "type")
        self.push_time = times("pilot_xds_push_time", "Making and writing one response", "type")
        self.whole_push = times("lateen_push_seconds", "Making the changes of one push", "kind")
        phases = times("lateen_push_phase_seconds", "One step on the way of a change", "phase")
        self.phase = {name: phases.labels(name) for name in PHASES}
        self.send_time = times("pilot_xds_send_time", "Writing one response to a proxy")
        self.config_size = TallyHistogram(
            "pilot_xds_config_size_bytes", "Size of responses", ("type",), _BYTES, registry
        )
        self.rejects = {
            name: counter(f"pilot_xds_{name}_reject", f"Proxies' rejections of {name}", "node")
            for name in SHORT_NAMES.values()
        }
        self.total_rejects = counter("pilot_total_xds_rejects", "Rejections by proxies", "type")
        self.verdicts = counter(
            "lateen_rejection_verdicts",
            "Rejections judged: alone (others accept it) or all (kept from all proxies)",
            "verdict",
        )
        self.internal_errors = counter("pilot_total_xds_internal_errors", "Errors of our own")
        self.expired_nonce = counter(
            "pilot_xds_expired_nonce", "Requests that answer an older response", "type"
        )
        self.write_timeout = counter("pilot_xds_write_timeout", "Proxies that did not read")
        self.push_triggers = counter("pilot_push_triggers", "What started pushes", "type")
        self.inbound_updates = counter("pilot_inbound_updates", "Changes received", "type")
        self.debounce_time = times("pilot_debounce_time", "From a change to its push")
        self.queue_time = times("pilot_proxy_queue_time", "Waiting for admission by new proxies")
        self.convergence_time = times(
            "pilot_proxy_convergence_time", "From a change to its acknowledgement by a proxy"
        )
        self.pushcontext_init = times("pilot_pushcontext_init_seconds", "Making a new snapshot")
        self.registry_events = counter(
            "pilot_k8s_reg_events", "Changes of what services are made of", "type", "event"
        )
        self.config_events = counter(
            "pilot_k8s_cfg_events", "Changes of configuration", "type", "event"
        )
        self.secret_errors = counter(
            "pilot_sds_certificate_errors", "Credentials asked for and not to be had"
        )
        self.largest_request = gauge("pilot_xds_recv_max", "Largest request received, in bytes")
        self.rejected_configs = counter(
            "pilot_total_rejected_configs", "Objects that could not be used", "kind", "reason"
        )
        self.certificates = counter("citadel_server_csr_count", "Signing requests")
        self.certificates_issued = counter(
            "citadel_server_success_cert_issuance_count", "Certificates issued"
        )
        self.certificate_errors = counter(
            "citadel_server_csr_sign_err_count", "Signing requests refused"
        )
        self.request_errors = counter(
            "citadel_server_csr_parsing_err_count", "Signing requests that cannot be read"
        )
        self.unknown_workloads = counter(
            "citadel_server_id_extraction_err_count", "Signing requests for workloads not known"
        )
        self.validation_passed = counter(
            "galley_validation_passed", "Objects admitted by the API", "group", "resource"
        )
        self.validation_failed = counter(
            "galley_validation_failed", "Objects refused by the API", "group", "resource"
        )
        self.root_expiry = gauge(
            "citadel_server_root_cert_expiry_timestamp", "When the authority expires (Unix time)"
        )
        self.scopes = gauge("lateen_scopes", "Distinct scopes of connected proxies")
        self.translations = counter("lateen_translations", "Scopes translated", "kind")
        self.bytes_sent = count("lateen_xds_bytes_sent", "Bytes of responses", "type")
        self.resources_sent = count("lateen_xds_resources_sent", "Resources sent", "type")
        self.messages_encoded = counter(
            "lateen_xds_messages_encoded", "Responses serialised (others were shared)", "type"
        )
        self.deferrals = counter(
            "lateen_deferrals", "Changes deferred for more urgent ones, while overloaded", "class"
        )
        self.quarantined = gauge(
            "lateen_quarantined_objects", "Objects held at their last good form"
        )
        self.broken = gauge("lateen_broken_objects", "Objects whose newest form does not parse")
        self.waiting = gauge("lateen_proxies_waiting", "Proxies waiting for admission")
        self.refused = counter("lateen_xds_refused", "Streams refused", "code")
        self.too_many_streams = counter(
            "lateen_proxy_streams_refused", "Streams refused as their proxy had too many"
        )
        self.loop_lag = times("lateen_event_loop_lag_seconds", "How late timers run")
        self.snapshot_version = gauge("lateen_snapshot_version", "Version of the snapshot")

        self._of_types: dict[str, TypeMetrics] = {}
        self._versions: set[str] = set()

    def connected_of(self, version: str) -> Gauge:
        """Proxies connected of an Envoy version. A client can claim any: the first 32 have a
        series of their own."""
        if version not in self._versions and len(self._versions) < _MAX_VERSIONS:
            self._versions.add(version)
        return self.connected.labels(version if version in self._versions else "other")

    def of_type(self, type_url: str) -> TypeMetrics:
        """The metrics of responses of a type."""
        name = short_name(type_url)
        found = self._of_types.get(name)
        if found is None:
            found = self._of_types[name] = TypeMetrics(self, name)
        return found

    def totals(self) -> dict[str, float]:
        """Work done since the start, over all types."""
        return {
            "translations": _total(self.translations),
            "encodings": _total(self.messages_encoded),
            "messages": self.pushes.total,
            "resources": self.resources_sent.total,
            "bytes": self.bytes_sent.total,
            "rejections": _total(self.total_rejects),
        }

    def render(self) -> bytes:
        """Prometheus text exposition format 0.0.4."""
        return _ISTIO_COUNTER.sub(rb"\1", generate_latest(self.registry))


def render(metrics: Iterable[Metric]) -> bytes:
    """These metrics alone, in the same format."""
    registry = CollectorRegistry()
    registry.register(_Given(tuple(metrics)))
    return _ISTIO_COUNTER.sub(rb"\1", generate_latest(registry))


class _Given(Collector):
    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


_ISTIO_COUNTER = re.compile(
    rb"\b((?!pilot_sds_certificate_errors)(?:pilot|citadel|galley|xds_cache)_\w+)_total\b"
)
"""Istio's counters have no suffix, save one; the Prometheus library adds it to all."""


def _total(counter: Counter) -> float:
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
