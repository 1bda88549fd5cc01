"""The capture rules of a sidecar: `CaptureConfig` in, `RuleSet` out (pure).

Order is meaning here. It is Istio's: exclusions, the proxy's own traffic, DNS, loopback, then what
is captured. Only the first packet of a connection passes these chains; the kernel remembers the
rest.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from lateen.capture.config import ALL, CaptureConfig, ProxyMatch
from lateen.capture.rules import Action, Chain, Field, Hook, Match, Rule, RuleSet, Verdict

TABLE = "lateen-capture"
_DNAT_PRIORITY = -100

_RETURN = Verdict(Action.RETURN)
_TCP = Match(Field.PROTOCOL, "tcp")
_UDP = Match(Field.PROTOCOL, "udp")
_TO_LOOPBACK_DEVICE = Match(Field.OUTPUT_INTERFACE, "lo")
_LOOPBACK = ("127.0.0.1/32", "::1/128")
_PASSTHROUGH_SOURCE = ("127.0.0.6/32", "::6/128")
"""Envoy connects from these when it passes an inbound connection through to its own port."""


def capture_rules(config: CaptureConfig) -> RuleSet:
    """The rules for one workload. With mode ``NONE`` the table is empty."""
    if config.mode == "NONE":
        return RuleSet(TABLE, ())
    return RuleSet(
        TABLE,
        (
            Chain("in-redirect", (_redirect((_TCP,), config.inbound_port),)),
            Chain("out-redirect", (_redirect((_TCP,), config.outbound_port),)),
            Chain("inbound", tuple(_inbound(config))),
            Chain("outbound", tuple(_outbound(config))),
            Chain("prerouting", tuple(_prerouting(config)), Hook.PREROUTING, "nat", _DNAT_PRIORITY),
            Chain("output", tuple(_output(config)), Hook.OUTPUT, "nat", _DNAT_PRIORITY),
        ),
    )


def _prerouting(config: CaptureConfig) -> Iterable[Rule]:
    for name in config.exclude_interfaces:
        yield Rule((Match(Field.INPUT_INTERFACE, name),), _RETURN)
    for name in config.virtual_interfaces:
        interface = Match(Field.INPUT_INTERFACE, name)
        for item in config.include_outbound_ranges:
            yield _jump((interface, _TCP, *_to(item)), "out-redirect")
        yield Rule((interface,), _RETURN)
    if config.include_inbound_ports:
        yield _jump((_TCP,), "inbound")


def _inbound(config: CaptureConfig) -> Iterable[Rule]:
    yield Rule((_TCP, _port(config.tunnel_port)), _RETURN)
    if config.include_inbound_ports == (ALL,):
        for port in config.exclude_inbound_ports:
            yield Rule((_TCP, _port(port)), _RETURN)
        yield _jump((_TCP,), "in-redirect")
    else:
        for port in config.include_inbound_ports:
            yield _jump((_TCP, _port(port)), "in-redirect")


def _output(config: CaptureConfig) -> Iterable[Rule]:
    for name in config.exclude_interfaces:
        yield Rule((Match(Field.OUTPUT_INTERFACE, name),), _RETURN)
    yield _jump((), "outbound")


def _outbound(config: CaptureConfig) -> Iterable[Rule]:
    for port in config.exclude_outbound_ports:
        for protocol in (_TCP, _UDP):
            yield Rule((protocol, _port(port)), _RETURN)
    for source in _PASSTHROUGH_SOURCE:
        yield Rule((_TO_LOOPBACK_DEVICE, Match(Field.SOURCE, source)), _RETURN)
    for field in _identity_fields(config):
        yield from _own_traffic(config, field)
    yield from _dns(config)
    for loopback in _LOOPBACK:
        yield Rule((Match(Field.DESTINATION, loopback),), _RETURN)
    for item in config.exclude_outbound_ranges:
        yield Rule((Match(Field.DESTINATION, item),), _RETURN)
    for port in config.include_outbound_ports:
        yield _jump((_TCP, _port(port)), "out-redirect")
    for item in config.include_outbound_ranges:
        yield _jump((_TCP, *_to(item)), "out-redirect")


def _own_traffic(config: CaptureConfig, field: Field) -> Iterable[Rule]:
    """What the proxy sends is not captured again, except towards its own application.

    When the proxy connects to an address of its own pod (the application called its own service),
    the connection must enter like any other inbound one.
    """
    proxy = Match(field, str(config.proxy_id))
    other = Match(field, str(config.proxy_id), negate=True)
    not_tunnel = Match(Field.DESTINATION_PORT, str(config.tunnel_port), negate=True)
    not_dns = Match(Field.DESTINATION_PORT, "53", negate=True)
    for family, loopback in (("ipv4", _LOOPBACK[0]), ("ipv6", _LOOPBACK[1])):
        matches: tuple[Match, ...] = (
            Match(Field.FAMILY, family),
            _TO_LOOPBACK_DEVICE,
            Match(Field.DESTINATION, loopback, negate=True),
            _TCP,
            not_tunnel,
        )
        if config.dns_port:
            matches = (*matches, not_dns)
        yield _jump((*matches, proxy), "in-redirect")
    if not _includes_loopback(config):
        if config.dns_port:
            yield Rule((_TO_LOOPBACK_DEVICE, _TCP, not_dns, other), _RETURN)
        else:
            yield Rule((_TO_LOOPBACK_DEVICE, other), _RETURN)
    yield Rule((proxy,), _RETURN)


def _dns(config: CaptureConfig) -> Iterable[Rule]:
    if config.dns_port:
        for protocol in (_TCP, _UDP):
            yield _redirect((protocol, _port(53)), config.dns_port)


def _identity_fields(config: CaptureConfig) -> tuple[Field, ...]:
    return (Field.MARK,) if config.proxy_match is ProxyMatch.MARK else (Field.USER, Field.GROUP)


def _includes_loopback(config: CaptureConfig) -> bool:
    return any(
        item != ALL and ipaddress.ip_network(item, strict=False).is_loopback
        for item in config.include_outbound_ranges
    )


def _to(item: str) -> tuple[Match, ...]:
    return () if item == ALL else (Match(Field.DESTINATION, item),)


def _port(port: int | str) -> Match:
    return Match(Field.DESTINATION_PORT, str(port))


def _jump(matches: tuple[Match, ...], chain: str) -> Rule:
    return Rule(matches, Verdict(Action.JUMP, chain=chain))


def _redirect(matches: tuple[Match, ...], port: int) -> Rule:
    return Rule(matches, Verdict(Action.REDIRECT, port=port))
