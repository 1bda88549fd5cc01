"""Load balancer choice, consistent hashing and slow start of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.api.base import duration_seconds
from lateen.api.networking.destination_rule import ConsistentHashLB, LoadBalancerSettings
from lateen.ir.cluster import LoadBalancer, SlowStart
from lateen.ir.route import HashPolicy

_SIMPLE = {
    "RANDOM": LoadBalancer.RANDOM,
    "ROUND_ROBIN": LoadBalancer.ROUND_ROBIN,
    "LEAST_REQUEST": LoadBalancer.LEAST_REQUEST,
    "LEAST_CONN": LoadBalancer.LEAST_REQUEST,
    "PASSTHROUGH": LoadBalancer.CLUSTER_PROVIDED,
}
_LEGACY_RING = 1024
_WARMED = (LoadBalancer.LEAST_REQUEST, LoadBalancer.ROUND_ROBIN)

_CONTROL = frozenset("\0\r\n")
"""What Envoy takes in no attribute of a cookie: such attributes are left out."""


@dataclass(frozen=True, slots=True)
class Balancing:
    """How a cluster chooses among its endpoints."""

    policy: LoadBalancer = LoadBalancer.LEAST_REQUEST
    ring_minimum_size: int = 0
    maglev_table_size: int = 0
    slow_start: SlowStart | None = None

    @property
    def passthrough(self) -> bool:
        """The client's own choice of address is kept (``simple: PASSTHROUGH``)."""
        return self.policy is LoadBalancer.CLUSTER_PROVIDED


def balancing(settings: LoadBalancerSettings | None) -> Balancing:
    """What ``settings`` ask for; LEAST_REQUEST when they do not say."""
    if settings is None:
        return Balancing()
    if settings.consistent_hash is not None:
        return _consistent(settings.consistent_hash)
    policy = _SIMPLE.get(settings.simple or "", LoadBalancer.LEAST_REQUEST)
    return Balancing(policy, slow_start=_slow_start(settings) if policy in _WARMED else None)


def hash_policies(settings: LoadBalancerSettings | None) -> tuple[HashPolicy, ...]:
    """What routes hash on; nothing without a consistent hash that has a key."""
    if settings is None or settings.consistent_hash is None:
        return ()
    consistent = settings.consistent_hash
    if consistent.http_header_name:
        return (HashPolicy(header=consistent.http_header_name),)
    if consistent.http_cookie is not None:
        cookie = consistent.http_cookie
        return (
            HashPolicy(
                cookie=cookie.name,
                cookie_path=cookie.path,
                cookie_ttl=None if cookie.ttl is None else duration_seconds(cookie.ttl),
                cookie_attributes=tuple(
                    (item.name, item.value)
                    for item in cookie.attributes
                    if _CONTROL.isdisjoint(item.name + item.value)
                ),
            ),
        )
    if consistent.use_source_ip:
        return (HashPolicy(source_ip=True),)
    if consistent.http_query_parameter_name:
        return (HashPolicy(query_parameter=consistent.http_query_parameter_name),)
    return ()


def _consistent(settings: ConsistentHashLB) -> Balancing:
    if settings.maglev is not None:
        size = settings.maglev.table_size
        # A table of one, which counts as prime, ends Envoy with a division by zero.
        return Balancing(LoadBalancer.MAGLEV, maglev_table_size=2 if size == 1 else size)
    if settings.ring_hash is not None:
        return Balancing(
            LoadBalancer.RING_HASH, ring_minimum_size=settings.ring_hash.minimum_ring_size
        )
    size = settings.minimum_ring_size or _LEGACY_RING
    return Balancing(LoadBalancer.RING_HASH, ring_minimum_size=size)


def _slow_start(settings: LoadBalancerSettings) -> SlowStart | None:
    if settings.warmup is not None:
        warmup = settings.warmup
        return SlowStart(
            window=duration_seconds(warmup.duration),
            minimum_percent=10.0 if warmup.minimum_percent is None else warmup.minimum_percent,
            aggression=1.0 if warmup.aggression is None else warmup.aggression,
        )
    if settings.warmup_duration_secs is not None:
        return SlowStart(window=duration_seconds(settings.warmup_duration_secs))
    return None
