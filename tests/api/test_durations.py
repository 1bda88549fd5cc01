"""Durations as Go writes them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen.api.base import duration_nanoseconds, duration_seconds

UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5s", 5),
        ("1.5s", 1.5),
        ("1h30m", 5400),
        ("100ms", 0.1),
        ("-1s", -1),
        (".5s", 0.5),
    ],
)
def test_examples(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 s", "1d", "s", "1s1", "--1s", "1,5s", "999999999h"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_nanoseconds(text)


@given(st.dictionaries(st.sampled_from(sorted(UNITS)), st.integers(0, 1000), min_size=1))
def test_terms_add_up(terms: dict[str, int]) -> None:
    text = "".join(f"{amount}{unit}" for unit, amount in terms.items())
    expected = sum(UNITS[unit] * amount for unit, amount in terms.items())
    assert duration_nanoseconds(text) == expected * 1_000_000


@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        duration_nanoseconds(text)
