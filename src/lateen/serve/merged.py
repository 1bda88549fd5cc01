"""Metrics of several processes as those of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

Export = list[list[Any]]
"""Families as name, type, help, and samples of name, labels and value."""

_SUMMED = frozenset(
    {
        "pilot_xds",
        "lateen_proxies_slow",
        "lateen_proxies_waiting",
        "lateen_push_queue_depth",
        "lateen_scopes",
        "pilot_k8s_proxies_with_no_service_targets",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
)
"""Gauges that add up; of others, which are about the mesh, the largest counts."""


def exported(metrics: CollectorRegistry | Iterable[Metric]) -> Export:
    """Metrics as plain values."""
    families = metrics.collect() if isinstance(metrics, CollectorRegistry) else metrics
    return [
        [
            family.name,
            family.type,
            family.documentation,
            [[sample.name, dict(sample.labels), float(sample.value)] for sample in family.samples],
        ]
        for family in families
    ]


def merged(exports: Iterable[Export]) -> list[Metric]:
    """One family per name: counters and histograms are added up."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for export in exports:
        for name, kind, text, samples in export:
            families.setdefault(name, Metric(name, text, kind))
            of_family = values.setdefault(name, {})
            adds = kind in ("counter", "histogram", "summary") or name in _SUMMED
            for sample, labels, value in samples:
                key = (sample, tuple(sorted(labels.items())))
                before = of_family.get(key)
                if before is None:
                    of_family[key] = value
                else:
                    of_family[key] = before + value if adds else max(before, value)
    for name, family in families.items():
        for (sample, labels), value in values[name].items():
            family.add_sample(sample, dict(labels), value)
    return list(families.values())
