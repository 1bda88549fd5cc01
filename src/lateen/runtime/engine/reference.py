"""References of images as they stand in manifests: ``registry/repository:tag@digest``.

The grammar is that of the OCI distribution specification and of docker's reference package. What
does not match it never reaches a command line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255
"""Longest registry and repository together."""

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9a-fA-F]{32,128}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")


class InvalidReference(ValueError):
    """Not the reference of an image; the message says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's full name. ``tag`` is empty when a digest says more exactly which image it is."""

    registry: str
    repository: str
    tag: str
    digest: str = ""
    short: bool = False
    """Written without a registry."""

    @property
    def name(self) -> str:
        """What is asked of the engine, complete: ``docker.io/library/nginx:1.27``."""
        suffix = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.registry}/{self.repository}{suffix}"

    @property
    def local_name(self) -> str:
        """What podman calls an image that was built here without a registry in its name; empty
        when this cannot be one."""
        if not self.short or self.digest:
            return ""
        return f"localhost/{self.repository.removeprefix('library/')}:{self.tag}"

    @property
    def floating(self) -> bool:
        """Whether Kubernetes would pull it always unless told otherwise: tag ``latest``."""
        return not self.digest and self.tag == DEFAULT_TAG


def parse(text: str) -> Reference:
    """Reads a reference, as container runtimes do.

    >>> parse("nginx").name
    'docker.io/library/nginx:latest'

    Raises `InvalidReference`.
    """
    if not text or len(text) > 4 * MAX_NAME:
        raise InvalidReference("an image reference must have between 1 and 1020 characters")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidReference(f"{text!r}: what follows @ is not a digest (sha256:...)")
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference(f"{text!r}: {tag!r} is not a tag")
    name = f"{head}{slash}{last}"
    registry, slash, repository = name.partition("/")
    short = not slash or not _is_registry(registry)
    if short:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if not _REGISTRY.fullmatch(registry):
        raise InvalidReference(f"{text!r}: {registry!r} is not a registry's host")
    if not _REPOSITORY.fullmatch(repository) or _IDENTIFIER.fullmatch(repository):
        raise InvalidReference(
            f"{text!r}: {repository!r} is not a repository (lower-case letters, digits, and single "
            "separators between them)"
        )
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(registry) + len(repository) >= MAX_NAME:
        raise InvalidReference(f"{text[:80]!r}...: the name has more than {MAX_NAME} characters")
    return Reference(registry, repository, "" if digest else tag or DEFAULT_TAG, digest, short)


def _is_registry(first: str) -> bool:
    """Whether the first part of a name is a registry and not part of a repository."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()
