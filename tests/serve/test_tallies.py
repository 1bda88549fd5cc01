"""Tallies print what the library's own histograms and counters print."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from lateen.serve.tallies import TallyCounter, TallyHistogram

BOUNDS = (0.001, 0.5, 1, 1e3, 4e7)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.001, 0.7, 1, 2e3, 1e9]))))
def test_a_tally_prints_what_the_librarys_histogram_prints(seen: list[tuple[str, float]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = TallyHistogram("seconds", "Times", ("kind",), BOUNDS, ours)
    histogram = Histogram("seconds", "Times", ("kind",), registry=theirs, buckets=BOUNDS)
    for kind, value in seen:
        tally.labels(kind).observe(value)
        histogram.labels(kind).observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_without_labels_nothing_observed_is_zero() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    TallyHistogram("seconds", "Times", (), BOUNDS, ours)
    Histogram("seconds", "Times", registry=theirs, buckets=BOUNDS)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_counter_is_printed_as_the_library_prints_its_own() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    count = TallyCounter("pushes", "Responses sent", ("type",), ours)
    counter = Counter("pushes", "Responses sent", ("type",), registry=theirs)
    for kind, amount in (("eds", 3), ("cds", 1), ("eds", 4)):
        count.labels(kind).add(amount)
        counter.labels(kind).inc(amount)
    assert generate_latest(ours) == generate_latest(theirs)
    assert count.total == 8
