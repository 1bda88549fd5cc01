"""Host names: short names, wildcards, and which of several hosts is the most specific."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

DOMAIN = "cluster.local"
"""DNS suffix of the services of a mesh."""

MESH_GATEWAY = "mesh"
"""The reserved gateway name that stands for all sidecars (``VirtualService.gateways``)."""


@lru_cache(maxsize=4096)
def is_ip(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def expand(host: str, namespace: str, domain: str = DOMAIN) -> str:
    """The full host name of ``host`` as an object of ``namespace`` writes it.

    Only a name without any dot is short; ``*``, addresses and everything with a dot stay as they
    are, so ``reviews.prod`` is *not* expanded (Istio ``VirtualService.hosts``).
    """
    if not host or "." in host or host == "*" or is_ip(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def service_hostname(name: str, namespace: str, domain: str = DOMAIN) -> str:
    """``NAME.NAMESPACE.svc.DOMAIN``."""
    return f"{name}.{namespace}.svc.{domain}"


def is_wildcard(host: str) -> bool:
    """Whether ``host`` stands for several hosts (``*`` or ``*.suffix``)."""
    return host.startswith("*")


def matches(left: str, right: str) -> bool:
    """Whether the two host patterns have a host in common; symmetric."""
    if not left.startswith("*"):
        return left.endswith(right[1:]) if right.startswith("*") else left == right
    if not right.startswith("*"):
        return right.endswith(left[1:])
    if len(left) < len(right):
        return right.endswith(left[1:])
    return left.endswith(right[1:])


def subset_of(inner: str, outer: str) -> bool:
    """Whether every host of pattern ``inner`` is one of pattern ``outer``."""
    if not outer.startswith("*"):
        return inner == outer
    if inner.startswith("*"):
        return len(inner) >= len(outer) and inner[1:].endswith(outer[1:])
    return inner.endswith(outer[1:])


def more_specific(left: str, right: str) -> bool:
    """Whether ``left`` is more specific: exact before wildcard, then the longer one."""
    left_wild, right_wild = left.startswith("*"), right.startswith("*")
    if left_wild != right_wild:
        return right_wild
    return len(left) > len(right)


def most_specific(host: str, patterns: Iterable[str]) -> str | None:
    """The most specific of ``patterns`` that covers ``host``, or None; ties go to the first."""
    best: str | None = None
    for pattern in patterns:
        if subset_of(host, pattern) and (best is None or more_specific(pattern, best)):
            best = pattern
    return best


def intersection(left: str, right: str) -> str | None:
    """The more specific of two patterns that match each other, or None when they do not."""
    if not matches(left, right):
        return None
    return left if more_specific(left, right) else right


def gateway_name(name: str, namespace: str) -> str:
    """A gateway reference as ``NAMESPACE/NAME``, or ``mesh``.

    ``gw`` and ``./gw`` are in ``namespace``; ``gw.ns`` and ``gw.ns.svc...`` is an old form of
    ``ns/gw`` (Istio ``VirtualService.gateways``).
    """
    if name == MESH_GATEWAY:
        return name
    if "/" in name:
        place, _, rest = name.partition("/")
        return f"{namespace if place == '.' else place}/{rest}"
    if "." in name:
        parts = name.split(".")
        return f"{parts[1]}/{parts[0]}"
    return f"{namespace}/{name}"
