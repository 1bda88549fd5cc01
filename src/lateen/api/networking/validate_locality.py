"""Locality load balancing."""

from __future__ import annotations

from lateen.api.findings import FieldPath
from lateen.api.networking.destination_rule import Failover, LocalityLbSetting
from lateen.api.networking.rules import POLICY, RISKY, WEIGHT
from lateen.api.report import Report

TOPOLOGY = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
)


def check_locality(
    setting: LocalityLbSetting, has_outlier_detection: bool, path: FieldPath, report: Report
) -> None:
    """Weights sum to 100, localities do not overlap, failover names two regions."""
    if setting.distribute and setting.failover:
        message = "can not simultaneously specify 'distribute' and 'failover'"
        report.error(POLICY, path, message)
        return
    if setting.failover:
        for index, label in enumerate(setting.failover_priority):
            if label in TOPOLOGY:
                message = f"can not simultaneously set 'failover' and topology label '{label}'"
                report.error(POLICY, (*path, "failoverPriority", index), message)
    for index, item in enumerate(setting.distribute):
        here: FieldPath = (*path, "distribute", index, "to")
        if any(not 1 <= weight <= 100 for weight in item.to.values()):
            report.error(WEIGHT, here, "locality weight must be in range [1, 100]")
        elif sum(item.to.values()) != 100:
            message = f"total locality weight {sum(item.to.values())} != 100"
            report.error(WEIGHT, here, message)
        problem = localities_problem(list(item.to))
        if problem:
            report.error(POLICY, here, problem)
    problem = localities_problem([item.from_ for item in setting.distribute])
    if problem:
        report.error(POLICY, (*path, "distribute"), problem)
    if (setting.failover or setting.failover_priority) and not has_outlier_detection:
        message = "outlier detection policy must be provided for failover"
        report.warn(RISKY, path, message, "Add outlierDetection beside loadBalancer.")
    check_failover(setting.failover, (*path, "failover"), report)


def check_failover(entries: list[Failover], path: FieldPath, report: Report) -> None:
    """Two different regions, without zones and wildcards."""
    for index, entry in enumerate(entries):
        here: FieldPath = (*path, index)
        if entry.from_ == entry.to:
            report.error(
                POLICY, here, "locality lb failover settings must specify different regions"
            )
        if "/" in entry.from_ + entry.to:
            report.error(POLICY, here, "locality lb failover only specify region")
        if "*" in entry.from_ + entry.to:
            message = "locality lb failover region should not contain '*' wildcard"
            report.error(POLICY, here, message)


def localities_problem(localities: list[str]) -> str:
    """Why the localities are malformed or overlap, or an empty string.

    A wildcard may follow what it covers (``a/b`` then ``a/*``), not precede it.
    """
    taken: dict[str, dict[str, set[str]]] = {}
    for locality in localities:
        if "*" in locality and (locality.count("*") > 1 or not locality.endswith("*")):
            return f"locality {locality} may have one wildcard '*', at the end"
        parts = locality.split("/", 2)
        if not all(parts):
            return f"locality {locality} must not contain empty region/zone/subzone info"
        if "*" in taken or not _take(taken, parts):
            return f"locality {locality} overlap with previous specified ones"
    return ""


def _take(taken: dict[str, dict[str, set[str]]], parts: list[str]) -> bool:
    region = parts[0]
    if len(parts) == 1:
        if region in taken:
            return False
        taken[region] = {"*": {"*"}}
        return True
    zones = taken.setdefault(region, {})
    zone = parts[1]
    if "*" in zones:
        return False
    if len(parts) == 2:
        if zone in zones:
            return False
        zones[zone] = {"*"}
        return True
    subzones = zones.setdefault(zone, set())
    if "*" in subzones or parts[2] in subzones:
        return False
    subzones.add(parts[2])
    return True
