"""Which localities are preferred: failover priorities and distribution weights."""

from __future__ import annotations

from dataclasses import dataclass

from lateen.api.networking.destination_rule import LoadBalancerSettings, LocalityLbSetting
from lateen.model.nodes import NODE_LABEL
from lateen.model.service import Locality, Service


@dataclass(frozen=True, slots=True)
class LocalityPolicy:
    """The locality settings that hold for a cluster."""

    setting: LocalityLbSetting | None = None
    enabled: bool = True
    forced: bool = False
    """Failover without outlier detection (``trafficDistribution``)."""

    def fails_over(self, *, ejects: bool) -> bool:
        """Whether endpoints have priorities; ``ejects`` says that outlier detection is on."""
        distributed = self.setting is not None and bool(self.setting.distribute)
        return self.enabled and (ejects or self.forced) and not distributed

    def weighted(self, *, ejects: bool) -> bool:
        """Whether Envoy weighs localities against each other."""
        if not self.enabled or self.setting is None:
            return False
        if self.setting.distribute:
            return True
        wanted = bool(self.setting.failover or self.setting.failover_priority)
        return wanted and self.fails_over(ejects=ejects)


_ZONE = [
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
]
_DISTRIBUTIONS = {
    "PreferClose": LocalityLbSetting(failover_priority=_ZONE),
    "PreferSameZone": LocalityLbSetting(failover_priority=_ZONE),
    "PreferSameNode": LocalityLbSetting(
        failover_priority=[*_ZONE, "topology.istio.io/subzone", NODE_LABEL]
    ),
}
"""What ``trafficDistribution`` prefers, as Istio has it: the zone, or the node in it."""


def effective_locality(
    settings: LoadBalancerSettings | None, mesh: LocalityLbSetting | None, service: Service
) -> LocalityPolicy:
    """DestinationRule before the service's trafficDistribution before the mesh."""
    own = settings.locality_lb_setting if settings is not None else None
    if own is not None:
        return LocalityPolicy(own, enabled=own.enabled is not False)
    if service.traffic_distribution:
        return LocalityPolicy(_DISTRIBUTIONS[service.traffic_distribution], forced=True)
    if mesh is not None:
        return LocalityPolicy(mesh, enabled=mesh.enabled is not False)
    return LocalityPolicy()


def priority(own: Locality, other: Locality, setting: LocalityLbSetting | None) -> int:
    """How far away ``other`` is: 0 same sub-zone, 1 zone, 2 region, 3 elsewhere.

    With a ``failover`` entry for the own region, regions other than its target come last (4).
    """
    if own.region == other.region:
        if own.zone != other.zone:
            return 2
        return 0 if own.sub_zone == other.sub_zone else 1
    target = next(
        (
            entry.to
            for entry in (setting.failover if setting is not None else ())
            if entry.from_ == own.region
        ),
        None,
    )
    return 3 if target is None or target == other.region else 4


def label_priority(names: list[str], own: dict[str, str], other: dict[str, str]) -> int:
    """``failoverPriority``: the number of labels from the first that differs onwards."""
    for index, entry in enumerate(names):
        name, _, value = entry.partition("=")
        wanted = value or own.get(name, "")
        if other.get(name, "") != wanted:
            return len(names) - index
    return 0


def matches(pattern: str, locality: Locality) -> bool:
    """Whether ``region/zone/subzone`` (each may be ``*`` or missing) covers ``locality``."""
    parts = pattern.split("/")
    actual = (locality.region, locality.zone, locality.sub_zone)
    for part, value in zip(parts, actual, strict=False):
        if part == "*":
            return True
        if part != value:
            return False
    return True


def text(locality: Locality) -> str:
    """``region/zone/subzone`` without trailing empty parts."""
    return "/".join((locality.region, locality.zone, locality.sub_zone)).rstrip("/")
