"""Many mutants in one Envoy: only what differs from what the world alone leads to, renamed.

A find is confirmed with the mutant alone, unrenamed. Run by itself, it searches further than the
tests have time for:

    python -m tests.translate.loads --count 20000 --first 1000
"""

from __future__ import annotations

import argparse
import atexit
import ipaddress
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lateen.envoy import decode, loading
from lateen.envoy.loading import Part
from lateen.model.discovery import DiscoveryResource
from tests.certificates import issue
from tests.translate import mutants
from tests.translate.mutants import Mutant

_PER_START = 300


def refusals(found: Iterable[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """Of valid mutants those that something refuses, with what it says."""
    batch: list[tuple[Mutant, list[Part]]] = []
    seen: set[bytes] = set()
    for mutant in found:
        try:
            proxies = changed(mutant)
        except Exception as error:
            yield mutant, f"translation fails: {error!r}"
            continue
        if said := next(filter(None, map(listeners, proxies)), ""):
            yield mutant, said
        batch.append((mutant, _different(mutant.kind, proxies, seen)))
        if sum(len(parts) for _, parts in batch) >= _PER_START:
            yield from _loaded(batch)
            batch = []
    yield from _loaded(batch)


def changed(mutant: Mutant) -> list[list[Part]]:
    """What each proxy is sent that is sent anything else than without the mutant."""
    usual = mutants.usual(mutant.kind)
    return [
        _parts(proxy)
        for proxy in mutants.sent(mutant.kind, mutant.resources)
        if any((part.type_url, part.name, part.version) not in usual for part in proxy)
    ]


def _loaded(batch: Sequence[tuple[Mutant, list[Part]]]) -> Iterator[tuple[Mutant, str]]:
    if not any(parts for _, parts in batch):
        return
    if not loading.fits([part for _, parts in batch for part in parts]):
        if len(batch) == 1:
            said = alone(batch[0][0])
            if said:
                yield batch[0][0], "; ".join(said)
            return
        half = len(batch) // 2
        yield from _loaded(batch[:half])
        yield from _loaded(batch[half:])


def alone(mutant: Mutant) -> list[str]:
    """What Envoy says against a mutant, as each proxy is sent it."""
    usual = _usual(mutant.kind)
    return [
        text
        for proxy in changed(mutant)
        for text in loading.check_parts(
            [
                (name, kind, _with_files(value))
                for name, kind, value in proxy
                if msgspec.json.encode(value) not in usual
            ]
        )
    ]


_decoded: dict[tuple[str, str, str], dict[str, Any]] = {}


def _parts(proxy: Sequence[DiscoveryResource]) -> list[Part]:
    def to_dict(resource: DiscoveryResource) -> dict[str, Any]:
        key = (resource.type_url, resource.name, resource.version)
        if key not in _decoded:
            if len(_decoded) > 5000:
                _decoded.clear()
            _decoded[key] = decode.to_dict(resource)
        return _decoded[key]

    return loading.parts(proxy, to_dict)


def _different(kind: str, proxies: list[list[Part]], seen: set[bytes]) -> list[Part]:
    usual = _usual(kind)
    found: list[Part] = []
    for name, where, value in (part for proxy in proxies for part in proxy):
        text = msgspec.json.encode(value)
        if text not in usual and text not in seen:
            seen.add(text)
            found.append((name, where, _renamed(value, where, len(seen))))
    return found


_known: dict[str, frozenset[bytes]] = {}


def _usual(kind: str) -> frozenset[bytes]:
    if kind not in _known:
        _known[kind] = frozenset(
            msgspec.json.encode(value)
            for proxy in mutants.sent(kind, ())
            for _, _, value in _parts(proxy)
        )
    return _known[kind]


def _renamed(value: dict[str, Any], kind: str, number: int) -> dict[str, Any]:
    """With a name, and an address, that no other part in the Envoy has."""
    changed: dict[str, Any] = _with_files({**value, "name": f"{value['name']}~{number}"})
    if kind == "listeners":
        host = ipaddress.ip_address("127.1.0.0") + number
        address = {"socket_address": {"address": str(host), "port_value": 80}}
        changed["address"] = address
        changed.pop("additional_addresses", None)
    return changed


def _with_files(value: Any) -> Any:
    """With a key and a certificate that are there in the place of each file."""
    if isinstance(value, list):
        return [_with_files(item) for item in value]
    if isinstance(value, dict):
        return {
            name: _key_and_certificate() if name == "filename" else _with_files(item)
            for name, item in value.items()
        }
    return value


@cache
def _key_and_certificate() -> str:
    made = issue()
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(made.certificate + made.key)
    atexit.register(Path(file.name).unlink)
    return file.name


def listeners(proxy: Iterable[Part]) -> str:
    """What Envoy would say of addresses, which `_renamed` takes away."""
    addresses: set[bytes] = set()
    for name, where, value in proxy:
        if where != "listeners":
            continue
        for each in (value, *value.get("additional_addresses", ())):
            text = msgspec.json.encode(each["address"])
            if text in addresses:
                return f"{name}: another listener has its address {text.decode()}"
            addresses.add(text)
            if socket := each["address"].get("socket_address"):
                try:
                    ipaddress.ip_address(socket["address"])
                except ValueError:
                    return f"{name}: {socket['address']} is no address"
                if not 0 < socket["port_value"] < 65536:
                    return f"{name}: {socket['port_value']} is no port"
    return ""


def main() -> int:
    """Search, print each find, and return 1 if there was one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--kind", choices=mutants.KINDS)
    options = parser.parse_args()
    tried = finds = 0

    def drawn() -> Iterator[Mutant]:
        nonlocal tried
        for seed in range(options.first, options.first + options.count):
            for kind in [options.kind] if options.kind else mutants.KINDS:
                found = mutants.mutant(kind, seed)
                if found is not None:
                    tried += 1
                    yield found

    for mutant, said in refusals(drawn()):
        finds += 1
        print(f"=== {mutant}: {said}", flush=True)
        print(yaml.safe_dump_all(mutant.raw, default_flow_style=None, sort_keys=False), flush=True)
    print(f"{tried} mutants, {finds} refused")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
