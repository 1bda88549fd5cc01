"""The service table in the kernel: nf_tables maps from virtual addresses to endpoints.

One map leads from (address, protocol, port) to the chain of a service port, which picks an index
and looks up the endpoint under it. So a packet costs the same with ten services and ten thousand,
and a changed endpoint touches one chain and one map.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence

from lateen.capture import nft
from lateen.capture.rules import PROTOCOL_NUMBERS, Chain, Hook
from lateen.runtime.node.services import ServiceChanges, ServicePort

TABLE = "lateen-services"
_SAFE_PACKET = 128 * 1024
_DNAT_PRIORITY, _SNAT_PRIORITY, _FILTER_PRIORITY = -100, 100, 0


def create_table(sock: socket.socket, node_ip: str, refused: Sequence[str]) -> None:
    """Makes the empty table: hooks, maps, and the refusal of virtual addresses.

    ``refused`` are address ranges in which whatever is not a service is refused at once.
    """
    batch = nft.Batch(nft.FAMILY_IPV4)
    batch.add_table(TABLE)
    batch.add_map(TABLE, "ports", (nft.TYPE_IPV4_PROTO_PORT, 12), (nft.TYPE_VERDICT, 0))
    batch.add_map(TABLE, "node-ports", (nft.TYPE_PROTO_PORT, 8), (nft.TYPE_VERDICT, 0))
    batch.add_map(TABLE, "addresses", (nft.TYPE_IPV4, 4))
    batch.add_map(TABLE, "hairpin", (nft.TYPE_IPV4_IPV4, 8))
    for chain in (
        Chain("services", ()),
        Chain("prerouting", (), Hook.PREROUTING, "nat", _DNAT_PRIORITY),
        Chain("output", (), Hook.OUTPUT, "nat", _DNAT_PRIORITY),
        Chain("postrouting", (), Hook.POSTROUTING, "nat", _SNAT_PRIORITY),
        Chain("refuse", ()),
        Chain("refuse-forwarded", (), Hook.FORWARD, "filter", _FILTER_PRIORITY),
        Chain("refuse-output", (), Hook.OUTPUT, "filter", _FILTER_PRIORITY),
    ):
        batch.add_chain(TABLE, chain)
    by_address = [
        nft.payload(1, 16, 4, 8),
        nft.protocol(9),
        nft.payload(2, 2, 2, 10),
        nft.lookup("ports", 8, 0),
    ]
    by_node_port = [
        nft.payload(1, 16, 4),
        nft.compare(ipaddress.ip_address(node_ip).packed),
        nft.protocol(8),
        nft.payload(2, 2, 2, 9),
        nft.lookup("node-ports", 8, 0),
    ]
    batch.add_rule(TABLE, "services", by_address, "service lookup")
    batch.add_rule(TABLE, "services", by_node_port, "node port lookup")
    for hook in ("prerouting", "output"):
        batch.add_rule(TABLE, hook, [nft.immediate_verdict(nft.JUMP, "services")], hook)
    # A pod that reaches itself through its service must see another source than itself.
    hairpin = [nft.payload(1, 12, 4, 8), nft.payload(1, 16, 4, 9), nft.lookup("hairpin", 8)]
    batch.add_rule(TABLE, "postrouting", [*hairpin, nft.masquerade()], "hairpin")
    _refusals(batch, refused)
    batch.commit(sock)


def _refusals(batch: nft.Batch, refused: Sequence[str]) -> None:
    """After address translation nothing for a virtual address is left that has an endpoint."""
    tcp = [nft.protocol(1), nft.compare(bytes([PROTOCOL_NUMBERS["tcp"]]))]
    batch.add_rule(TABLE, "refuse", [*tcp, nft.reject_with_reset()], "refuse tcp")
    batch.add_rule(TABLE, "refuse", [nft.reject()], "refuse")
    not_local = [nft.meta(7), nft.compare(b"lo".ljust(16, b"\0"), 1)]
    for chain in ("refuse-forwarded", "refuse-output"):
        jump = nft.immediate_verdict(nft.GOTO, "refuse")
        known = [nft.payload(1, 16, 4), nft.lookup("addresses", 1), jump]
        batch.add_rule(TABLE, chain, [*not_local, *known], "refuse addresses")
        for item in refused:
            network = ipaddress.ip_network(item)
            within = [
                nft.payload(1, 16, 4),
                nft.masked(network.netmask.packed),
                nft.compare(network.network_address.packed),
            ]
            batch.add_rule(TABLE, chain, [*not_local, *within, jump], f"refuse {item}")


def apply_changes(sock: socket.socket, changes: ServiceChanges) -> None:
    """Writes changes to the kernel.

    Each service port changes atomically; one transaction holds many of them. Raises `OSError`.
    """
    previous = {port.key: port for port in changes.removed}
    replacements: list[tuple[ServicePort | None, ServicePort | None]] = [
        (previous.pop(port.key, None), port) for port in changes.added
    ]
    replacements += [(port, None) for port in previous.values()]
    batch = nft.Batch(nft.FAMILY_IPV4)
    batch.add_elements(TABLE, "hairpin", [(_twice(ip), None) for ip in changes.backends_added])
    batch.add_elements(TABLE, "addresses", [(_packed(ip), None) for ip in changes.addresses_added])
    for gone, come in replacements:
        _replace(batch, gone, come)
        if batch.size > _SAFE_PACKET:
            batch.commit(sock)
            batch = nft.Batch(nft.FAMILY_IPV4)
    batch.delete_elements(TABLE, "hairpin", map(_twice, changes.backends_removed))
    batch.delete_elements(TABLE, "addresses", map(_packed, changes.addresses_removed))
    batch.commit(sock)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _twice(address: str) -> bytes:
    return _packed(address) * 2


def _replace(batch: nft.Batch, old: ServicePort | None, new: ServicePort | None) -> None:
    key = (new or old or ServicePort("", 0)).key
    chain, endpoints = f"service-{key}", f"endpoints-{key}"
    had, has = bool(old and old.endpoints), bool(new and new.endpoints)
    if old and had:
        _entries(batch, old, delete=True)
        batch.flush_chain(TABLE, chain)
        if has:
            batch.flush_elements(TABLE, endpoints)
        else:
            batch.delete_chain(TABLE, chain)
            batch.delete_map(TABLE, endpoints)
    if new and has:
        if not had:
            batch.add_chain(TABLE, Chain(chain, ()))
            batch.add_map(TABLE, endpoints, (nft.TYPE_INTEGER, 4), (nft.TYPE_IPV4_PORT, 8))
        batch.add_elements(
            TABLE,
            endpoints,
            [
                (
                    struct.pack("=I", index),
                    _packed(address) + struct.pack("!H2x", port),
                )
                for index, (address, port) in enumerate(new.endpoints)
            ],
        )
        count = len(new.endpoints)
        choose = (
            [nft.payload(1, 12, 4, 1), nft.hashed(1, 4, count, 8)]
            if new.affinity
            else [nft.random_number(count, 8)]
        )
        rule = [*choose, nft.lookup(endpoints, 8, 8), nft.dnat_ipv4(8, 9)]
        batch.add_rule(TABLE, chain, rule, f"service {key}")
        _entries(batch, new, delete=False)


def _entries(batch: nft.Batch, port: ServicePort, *, delete: bool) -> None:
    chain = f"service-{port.key}"
    number = PROTOCOL_NUMBERS[port.protocol]
    by_port = struct.pack("!B3xH2x", number, port.port)
    entries = [("ports", _packed(port.address) + by_port)]
    if port.node_port:
        entries.append(("node-ports", struct.pack("!B3xH2x", number, port.node_port)))
    for name, key in entries:
        if delete:
            batch.delete_elements(TABLE, name, [key])
        else:
            batch.add_elements(TABLE, name, [(key, chain)])
