"""What is wrong with a Gateway or ListenerSet by itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from lateen.api.findings import FieldPath
from lateen.api.gatewayapi import rules
from lateen.api.gatewayapi.gateway import (
    Gateway,
    GatewaySpecAddress,
    GatewayTLSConfig,
    Listener,
    ListenerEntry,
    ListenerNamespaces,
    ListenerSet,
    ListenerTLSConfig,
    RouteNamespaces,
)
from lateen.api.gatewayapi.reference_validation import check_selector, check_unique
from lateen.api.report import Report

_HOSTNAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def validate_gateway(gateway: Gateway, report: Report) -> None:
    """Check listeners, addresses, TLS and what is allowed to attach."""
    spec = gateway.spec
    _check_listeners(spec.listeners, report)
    _check_addresses(spec.addresses, ("spec", "addresses"), report)
    if spec.tls is not None:
        _check_tls_settings(spec.tls, ("spec", "tls"), report)
    if spec.allowed_listeners is not None:
        _check_namespaces(
            spec.allowed_listeners.namespaces,
            ("spec", "allowedListeners", "namespaces"),
            report,
        )


def validate_listener_set(listener_set: ListenerSet, report: Report) -> None:
    """Check listeners as those of a Gateway are."""
    _check_listeners(listener_set.spec.listeners, report)
    if listener_set.api_version.endswith("/v1"):
        for index, listener in enumerate(listener_set.spec.listeners):
            if not listener.port:
                report.error(
                    rules.BACKEND_PORT,
                    ("spec", "listeners", index, "port"),
                    f"listener {listener.name} needs a port from 1 to 65535",
                )


def _check_listeners(listeners: Sequence[Listener | ListenerEntry], report: Report) -> None:
    path = ("spec", "listeners")
    names = (listener.name for listener in listeners)
    check_unique(names, path, "name", "listener name", report)
    seen: dict[tuple[int, str, str | None], str] = {}
    for index, listener in enumerate(listeners):
        where = (*path, index)
        protocol = listener.protocol.upper()
        _check_listener_tls(listener.tls, protocol, where, report)
        if protocol in ("TCP", "UDP") and listener.hostname:
            report.error(
                rules.LISTENER_HOSTNAME,
                (*where, "hostname"),
                f"hostname must not be specified for protocol {protocol}",
            )
        _check_namespaces(
            listener.allowed_routes.namespaces, (*where, "allowedRoutes", "namespaces"), report
        )
        place = (listener.port, protocol, listener.hostname)
        if listener.port and place in seen:
            report.error(
                rules.LISTENER_CONFLICT,
                where,
                f"listeners {seen[place]} and {listener.name} have the same port, protocol and "
                "hostname; the combination must be unique for each listener",
            )
        seen.setdefault(place, listener.name)


def _check_listener_tls(
    tls: ListenerTLSConfig | None, protocol: str, path: FieldPath, report: Report
) -> None:
    where = (*path, "tls")
    if tls is None:
        if protocol == "TLS":
            report.error(
                rules.LISTENER_TLS, where, "tls mode must be set for protocol TLS", "Add tls.mode."
            )
        return
    if protocol in ("HTTP", "TCP", "UDP"):
        report.error(
            rules.LISTENER_TLS,
            where,
            f"tls must not be specified for protocol {protocol}",
            "Use protocol HTTPS or TLS, or remove tls.",
        )
    if protocol == "HTTPS" and tls.mode != "Terminate":
        report.error(
            rules.LISTENER_TLS, (*where, "mode"), "tls mode must be Terminate for protocol HTTPS"
        )
    if tls.mode == "Terminate" and not tls.certificate_refs and not tls.options:
        report.error(
            rules.CERTIFICATE_MISSING,
            (*where, "certificateRefs"),
            "certificateRefs or options must be specified when mode is Terminate",
        )


def _check_namespaces(
    namespaces: RouteNamespaces | ListenerNamespaces, path: FieldPath, report: Report
) -> None:
    if namespaces.from_ == "Selector" and namespaces.selector is None:
        report.warn(
            rules.SELECTOR_MISSING,
            (*path, "selector"),
            "from is Selector but no selector is given, so nothing may attach",
        )
    check_selector(namespaces.selector, (*path, "selector"), report)


def _check_addresses(
    addresses: Sequence[GatewaySpecAddress], path: FieldPath, report: Report
) -> None:
    seen: set[tuple[str, str]] = set()
    for index, address in enumerate(addresses):
        where = (*path, index, "value")
        value = address.value
        if not value:
            continue
        if (address.type, value) in seen:
            report.error(
                rules.BAD_GATEWAY_ADDRESS, where, f"{address.type} values must be unique: {value}"
            )
        seen.add((address.type, value))
        if address.type == "IPAddress" and not _is_address(value):
            report.error(rules.BAD_GATEWAY_ADDRESS, where, f'"{value}" is not an IP address')
        if address.type == "Hostname" and not _HOSTNAME.fullmatch(value):
            report.error(rules.BAD_GATEWAY_ADDRESS, where, f'"{value}" is not a host name')


def _check_tls_settings(tls: GatewayTLSConfig, path: FieldPath, report: Report) -> None:
    if tls.frontend is None:
        return
    ports = (str(entry.port) for entry in tls.frontend.per_port)
    check_unique(ports, (*path, "frontend", "perPort"), "port", "port", report)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
