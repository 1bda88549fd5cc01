"""Versions of resources that are kept from all proxies, as values to send to other processes."""

from __future__ import annotations

from collections.abc import Iterable

from lateen.model.discovery import DiscoveryResource

Withheld = tuple[str, str, str]
"""Type URL, name and version."""


def encode_withheld(items: Iterable[Withheld]) -> list[list[str]]:
    """As plain values."""
    return [list(item) for item in sorted(items)]


def decode_withheld(rows: Iterable[list[str]]) -> list[DiscoveryResource]:
    """As resources without bodies."""
    return [DiscoveryResource(url, name, version, b"") for url, name, version in rows]
