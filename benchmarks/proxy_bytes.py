"""Where the bytes of one proxy's configuration go, by resource type and by field.

``python -m benchmarks.proxy_bytes [--services 1000] [--endpoints 5] [--namespaces 20]
[--parts TYPE] [-o json]``

Translates the load rig's mesh for one sidecar without a Sidecar object and adds up what it is sent
when it connects. ``--parts`` breaks one type down by the fields of its messages.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator

from benchmarks.scale.mesh import Size, objects
from benchmarks.scale.wire import read_varint
from lateen.api.parse import parse_object
from lateen.api.resource import Provenance, Resource
from lateen.envoy import build, protos
from lateen.model.discovery import DiscoveryResource, ResourceSet
from lateen.model.scope import scope_of_pod
from lateen.model.snapshot import snapshot_of
from lateen.serve import wire
from lateen.serve.metrics import short_name
from lateen.translate.configuration import translate

_DEPTH = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--endpoints", type=int, default=5)
    parser.add_argument("--namespaces", type=int, default=20)
    parser.add_argument("--parts", default="", help="a type, for instance cds")
    parser.add_argument("-o", dest="form", choices=("text", "json"), default="text")
    options = parser.parse_args()
    size = Size(options.services, options.endpoints, 1, options.namespaces)
    found = configuration(size)
    if options.parts:
        chosen = [
            item
            for url, items in found.items()
            if short_name(url) == options.parts
            for item in items.values()
        ]
        rows = dict(by_field(chosen).most_common(60))
    else:
        rows = {
            short_name(url): len(wire.encode_delta(url, items.values(), (), "n"))
            for url, items in found.items()
        }
        rows |= {f"{short_name(url)} resources": len(items) for url, items in found.items()}
    if options.form == "json":
        print(json.dumps(rows, indent=2))
        return
    for name, value in rows.items():
        print(f"{value:12,} {name}")


def configuration(size: Size) -> ResourceSet:
    """All resources of the sidecar of the first pod."""
    parsed = [parse_object(raw, Provenance()) for raw in objects(size)]
    found = [item for item in parsed if isinstance(item, Resource)]
    snapshot = snapshot_of(found)
    pod = next(item for item in found if item.key.kind == "Pod")
    return build.resources(translate(snapshot, scope_of_pod(snapshot, pod)))


def by_field(resources: list[DiscoveryResource]) -> Counter[str]:
    """Bytes by path of field names, each path with all below it."""
    total: Counter[str] = Counter()
    for item in resources:
        message = protos.message_class(item.type_url.rpartition("/")[2])
        for path, count in _sizes(message.DESCRIPTOR, item.body, ()):
            total[".".join(path)] += count
    return total


def _sizes(descriptor, body: bytes, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:  # type: ignore[no-untyped-def] # noqa: ANN001
    position = 0
    while position < len(body):
        start = position
        tag, position = read_varint(body, position)
        field = descriptor.fields_by_number.get(tag >> 3)
        content = b""
        if tag & 7 == 2:
            size, position = read_varint(body, position)
            content = body[position : position + size]
            position += size
        elif tag & 7 == 0:
            _, position = read_varint(body, position)
        else:
            position += 8 if tag & 7 == 1 else 4
        here = (*path, field.name if field is not None else str(tag >> 3))
        yield here, position - start
        inner = field.message_type if field is not None else None
        if inner is not None and len(here) < _DEPTH:
            if inner.full_name == "google.protobuf.Any":
                packed = protos.message_class("google.protobuf.Any").FromString(content)
                name = packed.type_url.rpartition("/")[2]  # type: ignore[attr-defined]
                value = packed.value  # type: ignore[attr-defined]
                yield from _sizes(protos.message_class(name).DESCRIPTOR, value, here)
            else:
                yield from _sizes(inner, content, here)


if __name__ == "__main__":
    main()
