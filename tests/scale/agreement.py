"""``python -m tests.scale.agreement HISTORY``: what one control plane gives its proxies.

It comes to the same objects by a history of its own: another order of creation, other forms in
between, other keys first within an object, other store revisions. The hash seed is the caller's to
choose, so this is a process.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable, Iterator

import msgspec

from lateen.api.resource import Resource
from lateen.model.change import Change, ChangeSet
from lateen.model.discovery import ResourceSet
from lateen.model.proxy import Scope
from lateen.model.snapshot import EMPTY, Snapshot, apply
from lateen.serve import feed
from lateen.serve.generator import MeshGenerator
from tests.scale.test_incremental import Raw, a_change, beginning, parsed, watched
from tests.translate import golden

Mesh = tuple[str, list[Resource], golden.Case | None]
"""A name, the objects, and the case that says which proxy to look at (otherwise all pods)."""
Versions = dict[str, dict[str, dict[str, str]]]
"""Version and hash of the bytes by scope, type URL and name."""
_GENERATED = 8
_CREATED = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2025-06-01T00:00:00Z")


def meshes() -> Iterator[Mesh]:
    """Generated ones, then those of the golden cases; the same in each process."""
    for seed in range(_GENERATED):
        chance = random.Random(seed)
        snapshot, _ = apply(EMPTY, beginning())
        snapshot, _ = apply(snapshot, [a_change(chance) for _ in range(40)])
        by_key = sorted(snapshot.resources(), key=lambda item: item.key)
        yield f"generated/{seed}", [_created(item, chance) for item in by_key], None
    for path in golden.paths():
        case = golden.read(path)
        yield case.name, list(case.resources), case


def _created(resource: Resource, chance: random.Random) -> Resource:
    raw = _raw(resource)
    raw["metadata"]["creationTimestamp"] = chance.choice(_CREATED)
    return parsed(raw)


def versions(mesh: Mesh, history: int) -> Versions:
    """Version and bytes (their hash) by name, type URL and scope."""
    _, resources, case = mesh
    generator = MeshGenerator()
    snapshot, held = EMPTY, dict[Scope, ResourceSet]()
    for step in steps(resources, random.Random(history)) if history else [changes_of(resources)]:
        snapshot, changes = apply(snapshot, step)
        held = _followed(generator, snapshot, held, changes, case)
    return {
        repr(scope): {
            type_url: {name: f"{item.version} {_hash(item.body)}" for name, item in items.items()}
            for type_url, items in made.items()
        }
        for scope, made in held.items()
    }


def _followed(
    generator: MeshGenerator,
    snapshot: Snapshot,
    held: dict[Scope, ResourceSet],
    changes: ChangeSet,
    case: golden.Case | None,
) -> dict[Scope, ResourceSet]:
    """What the proxies have after a step, made from what they had."""
    now: dict[Scope, ResourceSet] = {}
    for scope in dict.fromkeys(_scopes(snapshot, case)):
        before = held.get(scope)
        now[scope] = (
            generator.generate(snapshot, scope)
            if before is None
            else generator.update(snapshot, scope, before, changes)
        )
    return now


def _scopes(snapshot: Snapshot, case: golden.Case | None) -> Iterable[Scope]:
    """Scope of the case's proxy, or else of some pods."""
    return watched(snapshot) if case is None else (golden.scope(case, snapshot),)


def steps(resources: Iterable[Resource], chance: random.Random) -> Iterator[list[Change]]:
    """Another way to the same objects, change set by change set."""
    last = [disguised(resource, chance) for resource in resources]
    chance.shuffle(last)
    changes = [Change(item.key, item) for item in last]
    for item in chance.sample(last, len(last) // 3):
        place = chance.randrange(changes.index(Change(item.key, item)) + 1)
        earlier = parsed(
            _raw(item) | {"metadata": {**_raw(item)["metadata"], "labels": {"a": "b"}}}
        )
        changes.insert(place, Change(item.key, earlier))
        if chance.random() < 0.5:
            changes.insert(place + 1, Change(item.key, None))
    while changes:
        size = chance.choice((5, 20, 60))
        yield list(feed.decode_changes(_sent(feed.encode_changes(changes[:size]))))
        del changes[:size]


def changes_of(resources: Iterable[Resource]) -> list[Change]:
    """All at once."""
    return [Change(resource.key, resource) for resource in resources]


def disguised(resource: Resource, chance: random.Random) -> Resource:
    """The object as another store has it: another revision, its fields in another order."""
    raw = _raw(resource)
    raw["metadata"] |= {
        "resourceVersion": str(chance.randrange(10**6)),
        "uid": f"{chance.randrange(16**8):08x}",
        "generation": chance.randrange(9) + 1,
    }
    return parsed(_shuffled(raw, chance))


def _shuffled(value: object, chance: random.Random) -> Raw:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: _shuffled(value[key], chance) for key in keys}
    if isinstance(value, list):
        return [_shuffled(item, chance) for item in value]  # type: ignore[return-value]
    return value  # type: ignore[return-value]


def _raw(resource: Resource) -> Raw:
    raw: Raw = msgspec.to_builtins(resource.object)
    return raw


def _sent(rows: object) -> list[list[object]]:
    found: list[list[object]] = msgspec.msgpack.decode(msgspec.msgpack.encode(rows))
    return found


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def main() -> None:
    """Print one line of JSON for each mesh."""
    history = int(sys.argv[1])
    for mesh in meshes():
        print(json.dumps([mesh[0], versions(mesh, history)]))


if __name__ == "__main__":
    main()
