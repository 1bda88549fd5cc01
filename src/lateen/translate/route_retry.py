"""Retry policies of routes: the default that every route has, and what a rule says instead."""

from __future__ import annotations

from msgspec.structs import replace

from lateen.api.base import duration_seconds
from lateen.api.networking.virtual_service import HTTPRetry
from lateen.ir.route import RetryPolicy

_STATUS_CODES = "retriable-status-codes"


def retry_policy(
    retries: HTTPRetry | None, *, default: RetryPolicy | None, consistent_hash: bool = False
) -> RetryPolicy | None:
    """The policy of a route, None when it retries nothing.

    ``default`` is the mesh's (`DEFAULT_RETRY` unless MeshConfig says otherwise); without a
    ``retries`` block it applies unchanged, a block with no attempts switches retries off.
    With a consistent hash the same endpoint is asked again, or the hash would mean nothing.
    """
    if retries is None:
        if default is None:
            return None
        return replace(default, previous_hosts=False) if consistent_hash else default
    if retries.attempts <= 0:
        return None
    return from_block(retries, consistent_hash=consistent_hash)


def from_block(retries: HTTPRetry, *, consistent_hash: bool = False) -> RetryPolicy:
    """What a ``retries`` block with at least one attempt means."""
    base = RetryPolicy(attempts=retries.attempts, previous_hosts=not consistent_hash)
    conditions = base.retry_on
    codes: tuple[int, ...] = ()
    if retries.retry_on:
        conditions, codes = split_conditions(retries.retry_on)
    previous_hosts = base.previous_hosts
    if retries.retry_ignore_previous_hosts is not None:
        previous_hosts = retries.retry_ignore_previous_hosts
    return replace(
        base,
        retry_on=conditions,
        status_codes=codes,
        per_try_timeout=_seconds(retries.per_try_timeout),
        base_interval=_seconds(retries.backoff),
        previous_hosts=previous_hosts,
        previous_priorities=bool(retries.retry_remote_localities),
    )


def split_conditions(text: str) -> tuple[str, tuple[int, ...]]:
    """``"503,reset"`` as conditions for Envoy and the HTTP codes among them."""
    conditions: list[str] = []
    codes: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        if part.isdigit() and 100 <= int(part) <= 599:
            codes.append(int(part))
        elif part:
            conditions.append(part)
    if codes and _STATUS_CODES not in conditions:
        conditions.append(_STATUS_CODES)
    return ",".join(conditions), tuple(codes)


def _seconds(text: str | None) -> float | None:
    return None if text is None else duration_seconds(text)
