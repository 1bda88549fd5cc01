"""The base of every typed message and the scalar types that API fields use."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

DURATION_PATTERN = r"^[-+]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)$"
"""Durations as Go writes them: ``1h30m``, ``1.5s``, ``100ms``."""


class Message(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
):
    """Base of every nested message: camelCase on the wire, misspelt fields refused.

    A field that is ``X | None = None`` tells absent from zero or empty; other defaults are the
    values that the API itself gives to an absent field.
    """


JsonObject = dict[str, object]
"""A JSON object that is kept as it is, because its schema is not ours."""

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN, extra_json_schema={"format": "duration"})]
"""Text such as ``5s`` or ``1h30m``; read it with `duration_seconds`."""

UInt32 = Annotated[int, Meta(ge=0, le=4294967295)]
Int32 = Annotated[int, Meta(ge=-2147483648, le=2147483647)]
UInt64 = Annotated[int, Meta(ge=0)]  # msgspec has no bounds beyond 63 bits
Int64 = Annotated[int, Meta(ge=-9223372036854775808, le=9223372036854775807)]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_WHOLE = re.compile(DURATION_PATTERN)
_TERM = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_DURATION = 100
"""Characters: the longest that there is, with nanoseconds, has 24."""
_MAX_NANOSECONDS = 2**63 - 1


def duration_nanoseconds(text: str) -> int:
    """Nanoseconds of a Go duration (``time.ParseDuration``).

    Raises ``ValueError`` if ``text`` is none or exceeds 64 bits (about 292 years).
    """
    if len(text) > _LONGEST_DURATION:
        raise ValueError(f"a text of {len(text)} characters is no duration such as 5s or 1h30m")
    if not _WHOLE.match(text):
        raise ValueError(f'"{text}" is not a duration such as 5s, 100ms or 1h30m')
    total = Fraction(0)
    for amount, unit in _TERM.findall(text):
        total += Fraction(amount if not amount.endswith(".") else amount[:-1]) * _UNITS[unit]
    nanoseconds = int(total)
    if nanoseconds > _MAX_NANOSECONDS:
        raise ValueError(f'"{text}" is longer than a duration can be')
    return -nanoseconds if text.startswith("-") else nanoseconds


@lru_cache(maxsize=1024)
def duration_seconds(text: str) -> float:
    """Seconds of a Go duration; raises ``ValueError`` as `duration_nanoseconds` does."""
    return duration_nanoseconds(text) / 1_000_000_000
