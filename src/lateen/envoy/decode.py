"""Serialised resources back to readable form, for ``lateen config`` and ``lateen translate``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from lateen.envoy import protos
from lateen.model.discovery import DiscoveryResource


def to_dict(resource: DiscoveryResource) -> dict[str, Any]:
    """A resource as proto3 JSON with ``.proto`` field names; nested ``Any`` are opened.

    Raises ``KeyError`` for a type that this package does not know.
    """
    return protos.to_dict(resource.type_url.removeprefix(protos.TYPE_PREFIX), resource.body)


def to_yaml(resources: Iterable[DiscoveryResource]) -> str:
    """Resources as a YAML stream, one document each, in the given order."""
    return yaml.dump_all(
        [to_dict(resource) for resource in resources],
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )
