"""What a replica reads while the process that starts it reads the same.

At the start the objects of the store are known long before they are understood. A replica gets
them in memory that it shares with the first process, and later only what the first process sees
otherwise (what is held back, what it cannot read), so that both are ready at the same time.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from lateen.api.meshconfig import MeshConfig
from lateen.api.resource import ObjectKey
from lateen.model.change import Change
from lateen.model.snapshot import EMPTY, Snapshot, apply, with_mesh
from lateen.serve import feed
from lateen.source.stored import StoredObject


@dataclass(frozen=True, slots=True)
class Preload:
    """Objects as they are stored."""

    data: bytes
    versions: dict[ObjectKey, str]
    """Resource versions of the objects."""

    def differences(self, snapshot: Snapshot) -> list[Change]:
        """What leads from the objects as they are stored to ``snapshot``."""
        versions = self.versions
        changes = [
            Change(resource.key, resource)
            for resource in snapshot.resources()
            if versions.get(resource.key) != resource.metadata.resource_version
        ]
        gone = (key for key in versions if snapshot.get(key) is None)
        return changes + [Change(key, None) for key in gone]


def preload_of(mesh: MeshConfig, objects: Iterable[StoredObject]) -> Preload:
    """All ``objects``, with the mesh configuration that holds unless one of them is one."""
    rows, versions = [], {}
    for stored in objects:
        place = dataclasses.replace(stored.provenance, origin="store")
        rows.append(feed.row(stored.key, stored.raw, place))
        versions[stored.key] = str(stored.revision)
    value = {"mesh": msgspec.to_builtins(mesh), "changes": rows}
    return Preload(msgspec.msgpack.encode(value), versions)


def open_preload(preload: Preload) -> int:
    """A descriptor to read it from, in memory that has no name."""
    descriptor = os.memfd_create("objects", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(preload.data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_preload(descriptor: int) -> Snapshot:
    """The snapshot of what another process has put there."""
    with os.fdopen(descriptor, "rb") as file:
        value = msgspec.msgpack.decode(file.read())
    empty, _ = with_mesh(EMPTY, msgspec.convert(value["mesh"], type=MeshConfig))
    return apply(empty, feed.decode_changes(value["changes"]))[0]
