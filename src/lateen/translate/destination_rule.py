"""A merged DestinationRule as clusters read it: policy, subsets, and where each is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lateen.api.findings import FieldPath
from lateen.api.networking.destination_rule import Subset, TrafficPolicy
from lateen.api.resource import Resource
from lateen.ir.origin import Origin
from lateen.model.destination_rules import EffectiveDestinationRule
from lateen.translate import origins
from lateen.translate.credentials import of_policies


@dataclass(frozen=True, slots=True)
class RuleSubset:
    """A subset and the place where it is defined."""

    definition: Subset
    resource: Resource
    path: FieldPath


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """The DestinationRules that hold for a host, merged."""

    traffic_policy: TrafficPolicy | None
    subsets: tuple[RuleSubset, ...]
    has_workload_selector: bool
    sources: tuple[Resource, ...]
    policy_source: Resource | None
    credentials: tuple[str, ...] = ()
    """Credential names in all of its policies."""

    def subset(self, name: str) -> RuleSubset | None:
        """The subset of this name."""
        return next((entry for entry in self.subsets if entry.definition.name == name), None)

    def origins(self, subset: RuleSubset | None) -> Iterator[Origin]:
        """What of the rule shaped a cluster."""
        if subset is not None:
            yield origins.of_resource(
                subset.resource, subset.path, f"defines subset {subset.definition.name}"
            )
        if self.policy_source is not None:
            yield origins.of_resource(
                self.policy_source, ("spec", "trafficPolicy"), "traffic policy of the host"
            )
        elif subset is None:
            yield origins.of_resource(self.sources[0], ("spec", "host"), "rule of the host")


def rule_of(effective: EffectiveDestinationRule) -> Rule:
    """``effective`` with the subsets beside their places."""
    places = effective.subset_sources
    return Rule(
        traffic_policy=effective.spec.traffic_policy,
        subsets=tuple(
            RuleSubset(definition, resource, ("spec", "subsets", index))
            for definition, (resource, index) in zip(effective.spec.subsets, places, strict=True)
        ),
        has_workload_selector=effective.selector is not None,
        sources=effective.sources,
        policy_source=effective.policy_source,
        credentials=of_policies(
            (
                effective.spec.traffic_policy,
                *(subset.traffic_policy for subset in effective.spec.subsets),
            )
        ),
    )
