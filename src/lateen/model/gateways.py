"""Gateways: which of them configure a proxy."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.api.networking.gateway import Gateway
from lateen.api.resource import Resource
from lateen.model import kinds
from lateen.model.ordering import age_key
from lateen.model.selection import selects
from lateen.model.snapshot import Index, Snapshot


class Gateways:
    """All Gateways of a snapshot, oldest first."""

    __slots__ = ("_answers", "all")

    def __init__(self, ordered: tuple[Resource, ...]) -> None:
        self.all = ordered
        self._answers: dict[frozenset[tuple[str, str]], tuple[Resource, ...]] = {}

    def for_labels(self, labels: Mapping[str, str]) -> tuple[Resource, ...]:
        """Gateways whose selector picks a proxy with these labels, in whatever namespace they
        are; an empty selector picks every gateway proxy."""
        key = frozenset(labels.items())
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = tuple(
                resource
                for resource in self.all
                if isinstance(resource.object, Gateway)
                and selects(resource.object.spec.selector, labels)
            )
        return answer

    @staticmethod
    def name(resource: Resource) -> str:
        """``NAMESPACE/NAME``, as VirtualServices refer to it once resolved."""
        return f"{resource.key.namespace}/{resource.key.name}"


def gateways(snapshot: Snapshot) -> Gateways:
    """The Gateways of a snapshot."""
    return snapshot.derived(_INDEX)


def _build(snapshot: Snapshot, previous: Gateways | None) -> Gateways:
    resources = snapshot.of_kind(*kinds.GATEWAY).values()
    return Gateways(tuple(sorted(resources, key=age_key)))


_INDEX: Index[Gateways] = Index("gateways", frozenset({kinds.GATEWAY}), _build)
