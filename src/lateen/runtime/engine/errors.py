"""Why a pod does not get an image."""

from __future__ import annotations


class ImageRefused(Exception):
    """No files for an image; ``reason`` is what Kubernetes calls it (``ErrImagePull``)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EngineAbsent(Exception):
    """There is no container engine to ask; the message says why."""
