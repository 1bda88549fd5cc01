"""How much of its bounds the xDS server has given away, for metrics, status and `lateen check`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lateen.serve.shares import Client, Shares


def shares_data(shares: Iterable[Shares]) -> list[dict[str, Any]]:
    """As JSON data: per quantity what is held, the bounds, the client that holds most, and the
    client that was last refused or evicted, with the seconds since then."""
    return [_data(item) for item in shares]


def _data(shares: Shares) -> dict[str, Any]:
    data: dict[str, Any] = {
        "unit": shares.unit,
        "held": shares.total,
        "limit": shares.bounds.total,
        "limitPerClient": shares.bounds.client,
        "refused": shares.refused,
        "evicted": shares.evicted,
    }
    largest = shares.largest()
    if largest is not None:
        data["largest"] = {**_client(largest[0]), "held": largest[1]}
    if shares.exceeded_at is not None and shares.exceeded_by is not None:
        seconds = round(time.monotonic() - shares.exceeded_at, 3)
        data["lastExceeded"] = {**_client(shares.exceeded_by), "secondsAgo": seconds}
    return data


def _client(client: Client) -> dict[str, str]:
    return {"identity": client.identity, "address": client.address}


class ShareCollector(Collector):
    """Prometheus metrics of ``shares``, which may grow."""

    def __init__(self, shares: Sequence[Shares]) -> None:
        self._shares = shares

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        held = GaugeMetricFamily("lateen_xds_held", "What clients hold", labels=["unit"])
        limit = GaugeMetricFamily("lateen_xds_limit", "What they may hold", labels=["unit"])
        refused = CounterMetricFamily(
            "lateen_xds_over_limit", "Clients refused or evicted", labels=["unit", "outcome"]
        )
        for item in self._shares:
            unit = item.unit.replace(" ", "_")
            held.add_metric([unit], item.total)
            limit.add_metric([unit], item.bounds.total)
            refused.add_metric([unit, "refused"], item.refused)
            refused.add_metric([unit, "evicted"], item.evicted)
        return held, limit, refused
