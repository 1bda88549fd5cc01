"""What can go wrong with certificates."""

from __future__ import annotations


class PkiError(Exception):
    """A certificate, key or request cannot be used. The message says why and what to do."""
