"""Rules into the kernel: nf_tables transactions through netlink (no `nft` program).

`install` replaces a `RuleSet`'s table in the current network namespace, all or nothing. `Batch` is
the layer below it, also used for the service table. Source: the kernel's
include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import cast

from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
    nft_set_msg,
    nft_table_msg,
)
from pyroute2.nftables.expressions import genex

from lateen.capture import netlink
from lateen.capture.rules import PROTOCOL_NUMBERS, Action, Chain, Field, Hook, Match, Rule, RuleSet

Expression = dict[str, object]

FAMILY_INET = 1
FAMILY_IPV4 = 2

TYPE_IPV4_PROTO_PORT = (7 << 12) | (12 << 6) | 13
TYPE_IPV4_PORT = (7 << 6) | 13
TYPE_IPV4_IPV4 = (7 << 6) | 7
TYPE_INTEGER = 4
TYPE_IPV4 = 7
TYPE_PROTO_PORT = (12 << 6) | 13
TYPE_VERDICT = 0xFFFFFF00

_BATCH_BEGIN, _BATCH_END = 16, 17
_SUBSYSTEM = 10
_NEW_TABLE, _DEL_TABLE, _NEW_CHAIN, _DEL_CHAIN, _NEW_RULE, _DEL_RULE = 0, 2, 3, 5, 6, 8
_NEW_SET, _DEL_SET, _NEW_ELEMENTS, _DEL_ELEMENTS = 9, 11, 12, 14

_HOOK_NUMBERS = {
    Hook.PREROUTING: 0,
    Hook.INPUT: 1,
    Hook.FORWARD: 2,
    Hook.OUTPUT: 3,
    Hook.POSTROUTING: 4,
}
_ACCEPT, JUMP, GOTO, _RETURN = 1, -3, -4, -5
_META_MARK, _META_IIFNAME, _META_OIFNAME, _META_USER, _META_GROUP = 3, 6, 7, 10, 11
_META_NFPROTO, _META_PROTOCOL = 15, 16
_NFPROTO = {"ipv4": 2, "ipv6": 10}
_EQUAL, _NOT_EQUAL = 0, 1


class Batch:
    """One transaction: collects changes, `commit` makes all of them or none."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._labels: list[str] = []
        self._parts: list[bytes] = []
        self._mark(_BATCH_BEGIN)

    @property
    def size(self) -> int:
        """Bytes so far. Without root a packet may have about 200 KB."""
        return sum(len(part) for part in self._parts)

    def add_table(self, name: str) -> None:
        """Makes a table unless it exists."""
        self._put(nft_table_msg, _NEW_TABLE, f"table {name}", name=name)

    def delete_table(self, name: str) -> None:
        """Deletes a table with all that is in it; it must exist."""
        self._put(nft_table_msg, _DEL_TABLE, f"table {name}", name=name)

    def add_chain(self, table: str, chain: Chain) -> None:
        """Makes a chain (without its rules) unless it exists."""
        attributes: dict[str, object] = {"table": table, "name": chain.name}
        if chain.hook is not None:
            attributes["hook"] = {
                "attrs": [
                    ("NFTA_HOOK_HOOKNUM", _HOOK_NUMBERS[chain.hook]),
                    ("NFTA_HOOK_PRIORITY", chain.priority),
                ]
            }
            attributes["type"] = chain.type
            attributes["policy"] = _ACCEPT
        self._put(nft_chain_msg, _NEW_CHAIN, f"chain {chain.name}", **attributes)

    def flush_chain(self, table: str, name: str) -> None:
        """Deletes all rules of a chain."""
        self._put(nft_rule_msg, _DEL_RULE, f"rules of {name}", table=table, chain=name)

    def delete_chain(self, table: str, name: str) -> None:
        """Deletes an empty chain that nothing refers to."""
        self._put(nft_chain_msg, _DEL_CHAIN, f"chain {name}", table=table, name=name)

    def add_rule(self, table: str, chain: str, rule: Sequence[Expression], label: str) -> None:
        """Appends a rule made of expressions."""
        self._put(nft_rule_msg, _NEW_RULE, label, table=table, chain=chain, expressions=list(rule))

    def add_map(
        self, table: str, name: str, key: tuple[int, int], data: tuple[int, int] | None = None
    ) -> None:
        """Makes a set, or a map when ``data`` is given; both are (type, length in bytes)."""
        attributes: dict[str, object] = {
            "table": table,
            "name": name,
            "id": len(self._labels),
            "flags": {"NFT_SET_MAP"} if data else set(),
            "key_type": key[0],
            "key_len": key[1],
        }
        if data is not None:
            attributes["data_type"] = data[0]
            if data[0] != TYPE_VERDICT:
                attributes["data_len"] = data[1]
        self._put(nft_set_msg, _NEW_SET, f"set {name}", **attributes)

    def delete_map(self, table: str, name: str) -> None:
        """Deletes a set or map that no rule refers to."""
        self._put(nft_set_msg, _DEL_SET, f"set {name}", table=table, name=name)

    def add_elements(
        self, table: str, name: str, elements: Iterable[tuple[bytes, bytes | str | None]]
    ) -> None:
        """Adds (key, data) pairs; data is bytes, the chain to go to, or None in a set."""
        self._elements(_NEW_ELEMENTS, table, name, elements)

    def delete_elements(self, table: str, name: str, keys: Iterable[bytes]) -> None:
        """Deletes the elements with these keys; they must exist."""
        self._elements(_DEL_ELEMENTS, table, name, ((key, None) for key in keys))

    def flush_elements(self, table: str, name: str) -> None:
        """Deletes all elements."""
        self._put(
            nft_set_elem_list_msg, _DEL_ELEMENTS, f"elements of {name}", table=table, set=name
        )

    def commit(self, sock: socket.socket | None = None) -> None:
        """Sends the transaction. Raises `OSError` naming the part that the kernel refused."""
        if sock is not None:
            netlink.exchange(sock, *self.packet())
            return
        with netlink.open_socket(netlink.NETLINK_NETFILTER) as own:
            netlink.exchange(own, *self.packet())

    def packet(self) -> tuple[bytes, tuple[str, ...]]:
        """The whole transaction as bytes, and what each of its messages is about."""
        end = _marker(_BATCH_END, len(self._labels))
        return b"".join([*self._parts, end]), tuple(self._labels)

    def _elements(
        self,
        kind: int,
        table: str,
        name: str,
        elements: Iterable[tuple[bytes, bytes | str | None]],
    ) -> None:
        encoded: list[object] = []
        for key, data in elements:
            attributes: list[tuple[str, object]] = [("NFTA_SET_ELEM_KEY", _value(key))]
            if isinstance(data, str):
                attributes.append(("NFTA_SET_ELEM_DATA", _verdict(GOTO, data)))
            elif data is not None:
                attributes.append(("NFTA_SET_ELEM_DATA", _value(data)))
            encoded.append({"attrs": attributes})
        if encoded:
            label = f"elements of {name}"
            self._put(nft_set_elem_list_msg, kind, label, table=table, set=name, elements=encoded)

    def _put(self, message_class: type, kind: int, label: str, **attributes: object) -> None:
        message = message_class()
        message["nfgen_family"] = self._family
        message["attrs"] = [
            (message_class.name2nla(key), value)  # type: ignore[attr-defined]  # pyroute2
            for key, value in attributes.items()
        ]
        flags = 0
        if kind in (_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_SET, _NEW_ELEMENTS):
            flags = netlink.NLM_F_CREATE | (netlink.NLM_F_APPEND if kind == _NEW_RULE else 0)
        self._parts.append(
            netlink.encode(
                cast("netlink.Encodable", message),
                len(self._labels),
                (_SUBSYSTEM << 8) | kind,
                flags,
            )
        )
        self._labels.append(label)

    def _mark(self, kind: int) -> None:
        self._parts.append(_marker(kind, len(self._labels)))
        self._labels.append("nf_tables transaction")


def _marker(kind: int, sequence: int) -> bytes:
    message = nfgen_msg()
    message["res_id"] = _SUBSYSTEM
    return netlink.encode(message, sequence, kind, 0)


def install(rules: RuleSet, sock: socket.socket | None = None, *, replace: bool = True) -> None:
    """Writes the table of ``rules`` into the current (or the socket's) network namespace.

    ``replace``: what the table held before is gone in the same moment. False is for a namespace
    that has no such table yet; closing the socket then need not wait 15 ms for the kernel's
    clean-up of the old one. Raises `OSError` naming the rule that was refused.
    """
    with_socket = sock or netlink.open_socket(netlink.NETLINK_NETFILTER)
    try:
        netlink.exchange(with_socket, *_encoded(rules, replace))
    finally:
        if sock is None:
            with_socket.close()


def add_chains(batch: Batch, table: str, chains: Sequence[Chain]) -> None:
    """Adds chains, then their rules (which may jump to any of them)."""
    for chain in chains:
        batch.add_chain(table, chain)
    for chain in chains:
        for rule in chain.rules:
            batch.add_rule(table, chain.name, rule_expressions(rule), f"{chain.name}: {rule}")


@functools.lru_cache(maxsize=32)
def _encoded(rules: RuleSet, replace: bool) -> tuple[bytes, tuple[str, ...]]:
    # Most pods have the same rules, and writing the messages takes longer than installing them.
    batch = Batch(FAMILY_INET)
    batch.add_table(rules.table)
    if replace:
        batch.delete_table(rules.table)
        batch.add_table(rules.table)
    add_chains(batch, rules.table, rules.chains)
    return batch.packet()


# Expressions


def rule_expressions(rule: Rule) -> list[Expression]:
    """The nf_tables expressions of one rule."""
    parts: list[Expression] = []
    for match in rule.matches:
        parts += _match(match)
    verdict = rule.verdict
    match verdict.action:
        case Action.RETURN:
            parts.append(immediate_verdict(_RETURN))
        case Action.ACCEPT:
            parts.append(immediate_verdict(_ACCEPT))
        case Action.JUMP:
            parts.append(immediate_verdict(JUMP, verdict.chain))
        case Action.REDIRECT:
            parts += redirect(verdict.port)
        case Action.REJECT:
            parts.append(reject())
    return parts


def _match(match: Match) -> list[Expression]:
    operator = _NOT_EQUAL if match.negate else _EQUAL
    value = match.value
    match match.field:
        case Field.PROTOCOL:
            return [meta(_META_PROTOCOL), compare(bytes([PROTOCOL_NUMBERS[value]]), operator)]
        case Field.FAMILY:
            return [meta(_META_NFPROTO), compare(bytes([_NFPROTO[value]]), operator)]
        case Field.DESTINATION_PORT:
            return [payload(2, 2, 2), compare(struct.pack("!H", int(value)), operator)]
        case Field.INPUT_INTERFACE:
            return [meta(_META_IIFNAME), compare(_interface(value), operator)]
        case Field.OUTPUT_INTERFACE:
            return [meta(_META_OIFNAME), compare(_interface(value), operator)]
        case Field.USER:
            return [meta(_META_USER), compare(struct.pack("=I", int(value)), operator)]
        case Field.GROUP:
            return [meta(_META_GROUP), compare(struct.pack("=I", int(value)), operator)]
        case Field.MARK:
            return [meta(_META_MARK), compare(struct.pack("=I", int(value)), operator)]
        case Field.SOURCE | Field.DESTINATION:
            return _address(match, operator)


def _address(match: Match, operator: int) -> list[Expression]:
    network = ipaddress.ip_network(match.value, strict=False)
    source = match.field is Field.SOURCE
    if network.version == 4:
        family, offset, length = _NFPROTO["ipv4"], 12 if source else 16, 4
    else:
        family, offset, length = _NFPROTO["ipv6"], 8 if source else 24, 16
    parts = [
        meta(_META_NFPROTO),
        compare(bytes([family])),
        payload(1, offset, length),
    ]
    if network.prefixlen < network.max_prefixlen:
        parts.append(masked(network.netmask.packed))
    parts.append(compare(network.network_address.packed, operator))
    return parts


def meta(key: int, register: int = 1) -> Expression:
    """Loads a packet's metadata into a register."""
    return cast("Expression", genex("meta", {"key": key, "dreg": register}))


def protocol(register: int) -> Expression:
    """Loads the transport protocol number (1 byte)."""
    return meta(_META_PROTOCOL, register)


def payload(base: int, offset: int, length: int, register: int = 1) -> Expression:
    """Loads bytes of a header (base 1: network, 2: transport)."""
    return cast(
        "Expression",
        genex("payload", {"dreg": register, "base": base, "offset": offset, "len": length}),
    )


def compare(data: bytes, operator: int = _EQUAL, register: int = 1) -> Expression:
    """Goes on only if the register equals (or, operator 1, differs from) the data."""
    return cast(
        "Expression", genex("cmp", {"sreg": register, "op": operator, "data": _value(data)})
    )


def masked(mask: bytes) -> Expression:
    """Keeps only the bits of ``mask`` in register 1."""
    attributes = {
        "sreg": 1,
        "dreg": 1,
        "len": len(mask),
        "mask": _value(mask),
        "xor": _value(bytes(len(mask))),
    }
    return cast("Expression", genex("bitwise", attributes))


def immediate_verdict(code: int, chain: str = "") -> Expression:
    """Return, accept, jump or goto."""
    return cast("Expression", genex("immediate", {"dreg": 0, "data": _verdict(code, chain)}))


def redirect(port: int) -> list[Expression]:
    """To a local port."""
    return [
        genex("immediate", {"dreg": 1, "data": _value(struct.pack("!H", port))}),
        genex("redir", {"reg_proto_min": 1}),
    ]


def reject() -> Expression:
    """Refuses with ICMP port unreachable, which connect(2) reports as connection refused."""
    return cast("Expression", genex("reject", {"type": 0, "icmp_code": 3}))


def reject_with_reset() -> Expression:
    """Refuses TCP with a reset."""
    return cast("Expression", genex("reject", {"type": 1}))


def lookup(name: str, source: int, destination: int | None = None) -> Expression:
    """Goes on only if the register's value is in the set; loads the map's data (0: verdict)."""
    attributes: dict[str, object] = {"set": name, "sreg": source}
    if destination is not None:
        attributes["dreg"] = destination
    return cast("Expression", genex("lookup", attributes))


def random_number(modulus: int, register: int) -> Expression:
    """Loads a random number from 0 to ``modulus`` - 1."""
    # `genex` cannot: the kernel's name for these attributes is shorter than the expression's.
    data = [("NFTA_NG_DREG", register), ("NFTA_NG_MODULUS", modulus), ("NFTA_NG_TYPE", 1)]
    return {"attrs": [("NFTA_EXPR_NAME", "numgen"), ("NFTA_EXPR_DATA", {"attrs": data})]}


def hashed(source: int, length: int, modulus: int, register: int) -> Expression:
    """Loads a number from 0 to ``modulus`` - 1 that depends on the source register alone."""
    return cast(
        "Expression",
        genex(
            "hash",
            {
                "sreg": source,
                "dreg": register,
                "len": length,
                "modulus": modulus,
                "seed": 0x1A7EE4,
                "type": 0,
            },
        ),
    )


def dnat_ipv4(address: int, port: int) -> Expression:
    """Rewrites the destination to the address and the port in two registers."""
    return cast(
        "Expression",
        genex(
            "nat",
            {"type": 1, "family": FAMILY_IPV4, "reg_addr_min": address, "reg_proto_min": port},
        ),
    )


def masquerade() -> Expression:
    """Rewrites the source to this namespace's address."""
    return cast("Expression", genex("masq", {}))


def _value(data: bytes) -> Expression:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _verdict(code: int, chain: str = "") -> Expression:
    attributes: list[tuple[str, object]] = [("NFTA_VERDICT_CODE", code)]
    if chain:
        attributes.append(("NFTA_VERDICT_CHAIN", chain))
    return {"attrs": [("NFTA_DATA_VERDICT", {"attrs": attributes})]}


def _interface(name: str) -> bytes:
    return name.encode()[:15].ljust(16, b"\0")
