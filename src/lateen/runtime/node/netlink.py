"""The netlink worker: the one process of a node that holds pyroute2, and only while there is work.

pyroute2 takes 14 MB of private memory and 0.2 s to load, so it lives in a helper of its own that
ends after `IDLE_SECONDS` without work and is started again on demand. It may make interfaces and
rules (CAP_NET_ADMIN) and step into pods' networks (CAP_SYS_ADMIN), nothing else.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from lateen.capture import CaptureConfig, ProxyMatch, capture_rules, netlink, nft
from lateen.capture.rules import Action, Chain, Field, Hook, Match, Rule, RuleSet, Verdict
from lateen.runtime.node import namespaces as ns
from lateen.runtime.node import wire
from lateen.runtime.node.service_rules import apply_changes, create_table
from lateen.runtime.node.services import ServiceChanges, ServicePort
from lateen.runtime.node.spec import NodeConfig, node_config

BRIDGE = "lateen0"
POD_INTERFACE = "eth0"
IDLE_SECONDS = 10.0

_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 20, 24
_IFF_UP = 1
_SCOPE_LINK, _SCOPE_UNIVERSE = 253, 0
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1
_NEW = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL | netlink.NLM_F_ACK


class _Routes:
    """Several rtnetlink changes in one packet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._labels: list[str] = []

    def link(self, label: str, *, index: int = 0, up: bool = False, **attributes: object) -> None:
        """Makes a link, or changes the one with ``index``."""
        message = ifinfmsg()
        message["index"] = index
        if up:
            message["flags"] = message["change"] = _IFF_UP
        message["attrs"] = [(f"IFLA_{k.upper()}", v) for k, v in attributes.items()]
        self._put(message, _RTM_NEWLINK, label, netlink.NLM_F_ACK if index else _NEW)

    def delete_link(self, index: int, name: str) -> None:
        """Deletes a link (of a veth pair: both ends)."""
        message = ifinfmsg()
        message["index"] = index
        self._put(message, _RTM_DELLINK, f"delete {name}", netlink.NLM_F_ACK)

    def address(self, index: int, address: str, prefix: int) -> None:
        """Adds an IPv4 address to an interface."""
        message = ifaddrmsg()
        message["family"] = socket.AF_INET
        message["prefixlen"] = prefix
        message["index"] = index
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        self._put(message, _RTM_NEWADDR, f"address {address}", _NEW)

    def route(self, index: int, destination: str = "", gateway: str = "") -> None:
        """Adds an IPv4 route: on the link itself, or through a gateway; default without target."""
        network = ipaddress.ip_network(destination or "0.0.0.0/0")
        message = rtmsg()
        message["family"] = socket.AF_INET
        message["dst_len"] = network.prefixlen
        message["table"] = _TABLE_MAIN
        message["proto"] = _PROTOCOL_STATIC
        message["type"] = _UNICAST
        message["scope"] = _SCOPE_UNIVERSE if gateway else _SCOPE_LINK
        message["attrs"] = [("RTA_OIF", index)]
        if destination:
            message["attrs"].append(("RTA_DST", str(network.network_address)))
        if gateway:
            message["attrs"].append(("RTA_GATEWAY", gateway))
        self._put(message, _RTM_NEWROUTE, f"route to {network}", _NEW)

    def commit(self, sock: socket.socket) -> None:
        """Sends them; raises `OSError` for the first that was refused."""
        netlink.exchange(sock, b"".join(self._parts), self._labels)

    def _put(self, message: object, kind: int, label: str, flags: int) -> None:
        self._parts.append(
            netlink.encode(cast("netlink.Encodable", message), len(self._labels), kind, flags)
        )
        self._labels.append(label)


class Worker:
    """Sockets into the node's namespace, and the operations."""

    def __init__(self) -> None:
        self._routes = netlink.open_socket(netlink.NETLINK_ROUTE)
        self._rules = netlink.open_socket(netlink.NETLINK_NETFILTER)
        self._own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def set_up_node(self, config: NodeConfig, egress_port: int) -> None:
        """Bridge, addresses, routes, the service table and the way out."""
        mac = mac_of(config.node_ip)
        make = _Routes()
        make.link(
            f"bridge {BRIDGE}",
            up=True,
            ifname=BRIDGE,
            address=mac,
            linkinfo={"attrs": [("IFLA_INFO_KIND", "bridge")]},
        )
        make.commit(self._routes)
        index = socket.if_nametoindex(BRIDGE)
        loopback = socket.if_nametoindex("lo")
        rest = _Routes()
        rest.address(index, config.node_ip, ipaddress.ip_network(config.pod_cidr).prefixlen)
        for address in config.extra_addresses:
            rest.address(loopback, address, 32)
        # Everything else leads to the bridge: what the rules do not take goes nowhere from there.
        rest.route(index)
        rest.commit(self._routes)
        refused = (config.service_cidr, *config.cluster_cidrs)
        create_table(self._rules, config.node_ip, refused)
        if egress_port:
            nft.install(egress_rules(config, egress_port), self._rules, replace=False)

    def attach(self, config: NodeConfig, ip: str, interface: str, net: int) -> None:
        """Connects a pod's network namespace to the bridge."""
        bridge = socket.if_nametoindex(BRIDGE)
        make = _Routes()
        peer = {
            "attrs": [
                ("IFLA_IFNAME", POD_INTERFACE),
                ("IFLA_ADDRESS", mac_of(ip)),
                ("IFLA_NET_NS_FD", net),
            ]
        }
        make.link(
            f"interface {interface}",
            up=True,
            ifname=interface,
            master=bridge,
            linkinfo={
                "attrs": [
                    ("IFLA_INFO_KIND", "veth"),
                    ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
                ]
            },
        )
        try:
            make.commit(self._routes)
        except FileExistsError:
            # The address's last pod is gone, but the kernel has not cleaned up after it yet.
            remove = _Routes()
            remove.delete_link(socket.if_nametoindex(interface), interface)
            remove.commit(self._routes)
            make.commit(self._routes)
        with self._inside(net):
            index = socket.if_nametoindex(POD_INTERFACE)
            inside = _Routes()
            inside.link("lo up", index=socket.if_nametoindex("lo"), up=True)
            inside.link("eth0 up", index=index, up=True)
            # /32: even neighbours are reached through the node, where services are translated
            # and translated back. A shortcut over the bridge would skip the way back.
            inside.address(index, ip, 32)
            inside.route(index, f"{config.node_ip}/32")
            inside.route(index, gateway=config.node_ip)
            with netlink.open_socket(netlink.NETLINK_ROUTE) as sock:
                inside.commit(sock)

    def capture(self, config: CaptureConfig, net: int, *, replace: bool) -> None:
        """Installs the capture rules of one pod."""
        with self._inside(net):
            nft.install(capture_rules(config), replace=replace)

    def services(self, changes: ServiceChanges) -> None:
        """Changes the service table."""
        apply_changes(self._rules, changes)

    @contextmanager
    def _inside(self, net: int) -> Iterator[None]:
        ns.setns(net, ns.CLONE_NEWNET)
        try:
            yield
        finally:
            ns.setns(self._own, ns.CLONE_NEWNET)


def egress_rules(config: NodeConfig, port: int) -> RuleSet:
    """TCP to anywhere outside the mesh goes to the forwarder on the node."""
    inside = (
        config.pod_cidr,
        config.service_cidr,
        *config.cluster_cidrs,
        "127.0.0.0/8",
        "224.0.0.0/4",
    )
    stay = tuple(Rule((Match(Field.DESTINATION, item),), Verdict(Action.RETURN)) for item in inside)
    leave = Rule(
        (Match(Field.FAMILY, "ipv4"), Match(Field.PROTOCOL, "tcp")),
        Verdict(Action.REDIRECT, port=port),
    )
    # After the service table (-100): a service may have an address outside these ranges.
    return RuleSet(
        "lateen-egress",
        (
            Chain("prerouting", (*stay, leave), Hook.PREROUTING, "nat", -90),
            Chain("output", (*stay, leave), Hook.OUTPUT, "nat", -90),
        ),
    )


def mac_of(ip: str) -> str:
    """A locally administered MAC address made from an IPv4 address: a new pod with an old address
    is found by neighbours that still remember the old one."""
    return ":".join(f"{byte:02x}" for byte in b"\x0a\x58" + ipaddress.ip_address(ip).packed)


def interface_of(ip: str) -> str:
    """Name of the node's end of a pod's link (at most 15 bytes, IFNAMSIZ)."""
    return "pod" + ipaddress.ip_address(ip).packed.hex()


def serve(channel: socket.socket) -> None:
    """The worker's loop; returns when there was no work for `IDLE_SECONDS`."""
    worker = Worker()
    while select.select([channel], [], [], IDLE_SECONDS)[0]:
        try:
            message, fds = wire.receive(channel)
        except wire.ChannelClosed:
            return
        reply: wire.Message = {"id": wire.number(message, "id")}
        try:
            _handle(worker, message, fds)
        except (OSError, ValueError, struct.error) as error:
            reply |= wire.error_reply(error)
        finally:
            for fd in fds:
                os.close(fd)
        wire.send(channel, reply)


def _handle(worker: Worker, message: wire.Message, fds: list[int]) -> None:
    operation = wire.text(message, "op")
    if operation == "services":
        worker.services(_service_changes(wire.mapping(message, "changes")))
    elif operation == "capture":
        worker.capture(_capture_config(wire.mapping(message, "capture")), fds[0], replace=True)
    else:
        config = node_config(wire.mapping(message, "config"))
        if operation == "node":
            worker.set_up_node(config, wire.number(message, "egress_port"))
        else:
            ip = wire.text(message, "ip")
            worker.attach(config, ip, interface_of(ip), fds[0])
            if "capture" in message:
                capture = _capture_config(wire.mapping(message, "capture"))
                worker.capture(capture, fds[0], replace=False)


def _capture_config(data: wire.Message) -> CaptureConfig:
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    arguments["proxy_match"] = ProxyMatch(str(arguments["proxy_match"]))
    return CaptureConfig(**arguments)  # type: ignore[arg-type]  # checked by __post_init__


def _service_changes(data: wire.Message) -> ServiceChanges:
    return ServiceChanges(
        removed=_ports(data, "removed"),
        added=_ports(data, "added"),
        addresses_removed=tuple(wire.strings(data, "addresses_removed")),
        addresses_added=tuple(wire.strings(data, "addresses_added")),
        backends_removed=tuple(wire.strings(data, "backends_removed")),
        backends_added=tuple(wire.strings(data, "backends_added")),
    )


def _ports(message: wire.Message, key: str) -> tuple[ServicePort, ...]:
    value = message.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list")
    ports = []
    for item in value:
        endpoints = tuple((str(address), int(port)) for address, port in item.pop("endpoints"))
        ports.append(ServicePort(**item, endpoints=endpoints))
    return tuple(ports)
