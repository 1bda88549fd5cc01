"""Why a part of the configuration is there."""

from __future__ import annotations

import msgspec

from lateen.api.findings import FieldPath
from lateen.api.resource import ObjectKey, Provenance


class Origin(msgspec.Struct, frozen=True):
    """The object (and the field in it) that asked for something, and the reason in words.

    ``key`` is None for what the mesh does by default; ``reason`` then names the default.
    """

    reason: str
    key: ObjectKey | None = None
    path: FieldPath = ()
    provenance: Provenance = msgspec.field(default_factory=Provenance)

    @property
    def config_path(self) -> str:
        """Istio's ``metadata.filter_metadata.istio.config`` path, empty without an object."""
        if self.key is None:
            return ""
        kind = "".join(
            f"-{letter.lower()}" if letter.isupper() else letter for letter in self.key.kind
        ).lstrip("-")
        return f"/apis/{self.key.group}/v1/namespaces/{self.key.namespace}/{kind}/{self.key.name}"
