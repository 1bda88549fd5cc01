"""Histograms and counters for what happens a thousand times per push.

``prometheus_client``'s own take a lock and walk their buckets for every observation, which was a
tenth of what a proxy's turn costs. Everything here runs on one event loop, so counting is enough;
the library still defines and prints the metric.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Tally:
    """Observations under one set of labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations up to each bound and above the one before; the last has no bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Count:
    """A count under one set of labels."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int) -> None:
        """Count ``amount`` more."""
        self.value += amount


class TallyCounter(Collector):
    """A counter with labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._counts: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The count of these label values."""
        found = self._counts.get(values)
        if found is None:
            found = self._counts[values] = Count()
        return found

    @property
    def total(self) -> int:
        """The sum over all labels."""
        return sum(count.value for count in self._counts.values())

    def describe(self) -> Iterable[Metric]:
        """See ``Collector``."""
        return [CounterMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.value)
        return [family]


class TallyHistogram(Collector):
    """A histogram with any number of labels; upper ``bounds`` are inclusive and ascending."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = tuple(bounds)
        self._tallies: dict[tuple[str, ...], Tally] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The tally of these label values."""
        found = self._tallies.get(values)
        if found is None:
            found = self._tallies[values] = Tally(self._bounds)
        return found

    def observe(self, value: float) -> None:
        """Count a value of a histogram without labels."""
        self._tallies[()].observe(value)

    def describe(self) -> Iterable[Metric]:
        """See ``Collector``."""
        return [HistogramMetricFamily(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """See ``Collector``."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, tally in self._tallies.items():
            summed = 0
            buckets: list[tuple[str, float]] = []
            for name, count in zip(names, tally.counts, strict=True):
                summed += count
                buckets.append((name, summed))
            family.add_metric(values, buckets, tally.total)
        return [family]
