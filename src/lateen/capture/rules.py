"""Packet rules as values: tables of chains of rules, in the words of nftables.

A `RuleSet` prints in nft's own language (``str(rules)``), so what is installed can be read,
compared with ``nft list ruleset`` and loaded with ``nft -f``. Nothing here touches the kernel.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


class Hook(enum.StrEnum):
    """Where in the kernel's packet path a base chain is asked (netfilter hooks)."""

    PREROUTING = "prerouting"
    INPUT = "input"
    FORWARD = "forward"
    OUTPUT = "output"
    POSTROUTING = "postrouting"


class Field(enum.StrEnum):
    """What of a packet a `Match` looks at; the text is nft's."""

    PROTOCOL = "meta l4proto"
    FAMILY = "meta nfproto"
    DESTINATION_PORT = "th dport"
    INPUT_INTERFACE = "iifname"
    OUTPUT_INTERFACE = "oifname"
    SOURCE = "saddr"
    DESTINATION = "daddr"
    USER = "meta skuid"
    GROUP = "meta skgid"
    MARK = "meta mark"


@dataclass(frozen=True, slots=True)
class Match:
    """One condition. ``value`` is text: ``tcp``, ``15008``, ``lo``, ``10.0.0.0/8``, ``1337``."""

    field: Field
    value: str
    negate: bool = False

    def __str__(self) -> str:
        operator = "!= " if self.negate else ""
        if self.field in (Field.SOURCE, Field.DESTINATION):
            family = "ip6" if ":" in self.value else "ip"
            return f"{family} {self.field} {operator}{self.value}"
        if self.field in (Field.INPUT_INTERFACE, Field.OUTPUT_INTERFACE):
            return f'{self.field} {operator}"{self.value}"'
        return f"{self.field} {operator}{self.value}"


class Action(enum.StrEnum):
    """What happens to a packet that a rule matches."""

    RETURN = "return"
    ACCEPT = "accept"
    JUMP = "jump"
    REDIRECT = "redirect"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An action, with the chain to jump to or the port to redirect to."""

    action: Action
    chain: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.action is Action.JUMP:
            return f"jump {self.chain}"
        if self.action is Action.REDIRECT:
            return f"redirect to :{self.port}"
        return str(self.action)


@dataclass(frozen=True, slots=True)
class Rule:
    """If all matches hold, the verdict; else the next rule."""

    matches: tuple[Match, ...]
    verdict: Verdict

    def __str__(self) -> str:
        return " ".join([*(str(match) for match in self.matches), str(self.verdict)])


@dataclass(frozen=True, slots=True)
class Chain:
    """A list of rules; with a hook, the kernel asks it (type nat or filter, by priority)."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    type: str = "nat"
    priority: int = 0

    def __str__(self) -> str:
        lines = [f"\tchain {self.name} {{"]
        if self.hook is not None:
            lines.append(
                f"\t\ttype {self.type} hook {self.hook} priority {self.priority}; policy accept;"
            )
        lines += [f"\t\t{rule}" for rule in self.rules]
        return "\n".join([*lines, "\t}"])


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One table of family inet (IPv4 and IPv6), replaced as a whole and atomically."""

    table: str
    chains: tuple[Chain, ...]

    def __str__(self) -> str:
        body = "\n\n".join(str(chain) for chain in self.chains)
        return f"table inet {self.table} {{\n{body}\n}}\n"
