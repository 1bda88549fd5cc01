"""What other proxies say of resources that one proxy refused.

Whoever holds a workload's certificate can refuse whatever its proxy is sent. So one proxy's word
alone keeps nothing from others: a refused version, or the newest form of the object behind it,
that others have acknowledged is only that proxy's affair (an older Envoy, an extension that it
lacks, or somebody in the pod who means harm).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from lateen.api.resource import ObjectKey
from lateen.serve.connection import Connection, ScopeState


@dataclass(frozen=True, slots=True)
class Question:
    """What others are asked about."""

    type_url: str
    resources: tuple[tuple[str, str], ...]
    """Names and versions that were refused."""
    proxy: str
    """Node id of the proxy that refused; its own word does not count again."""
    version: int
    """Snapshot version in which the suspect has the form that was refused."""
    suspect: tuple[str, str, str, str] | None = None
    """The object that is blamed: group, kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Identities that have acknowledged and that have refused; proxies that have yet to answer."""

    acknowledged: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    pending: int = 0

    def joined(self, other: Evidence) -> Evidence:
        """Together with what the proxies of another process say."""
        return Evidence(
            self.acknowledged | other.acknowledged,
            self.refused | other.refused,
            self.pending + other.pending,
        )


class Verdict(enum.StrEnum):
    """For whom a refusal counts."""

    ALONE = "alone"
    """The proxy that refused keeps what it has; nobody else is concerned."""
    ALL = "all"
    """What was refused is kept from all."""
    OPEN = "open"
    """Others were sent the same and have not answered."""


def verdict(found: Evidence, *, patient: bool) -> Verdict:
    """For whom a refusal counts; with ``patient`` those who have not answered are waited for.

    Identities count, not proxies: one workload's certificate serves for any number of streams.
    The refusing proxy itself counts as one.
    """
    if found.acknowledged and len(found.acknowledged) >= max(1, len(found.refused)):
        return Verdict.ALONE
    if found.pending and patient:
        return Verdict.OPEN
    return Verdict.ALL


def evidence(connections: Iterable[Connection], question: Question) -> Evidence:
    """What the proxies of this process say."""
    acknowledged, refused, pending = set(), set(), 0
    shaped: dict[int, bool] = {}
    for connection in connections:
        session, target = connection.session, connection.session.target
        if target is None:
            continue
        identity = str(connection.stream.identity)
        state = connection.state
        if state is not None and state.snapshot.version < question.version:
            # The push has not come to it yet. Who is pushed to first, and refuses, must not be
            # believed before the others have a say.
            pending += connection.node.id != question.proxy
            continue
        subscription = session.subscriptions.get(question.type_url)
        wanted = target.view(question.type_url).resources
        offered = [
            name
            for name, version in question.resources
            if name in wanted and wanted[name].version == version
        ]
        if connection.node.id == question.proxy:
            refused.add(identity)
        elif subscription is not None and offered:
            held = subscription.held.resources
            settled = not subscription.in_flight and all(
                name in held and held[name].version == wanted[name].version for name in offered
            )
            if settled:
                acknowledged.add(identity)
            elif subscription.rejection is not None:
                refused.add(identity)
            else:
                pending += 1
        elif question.suspect is not None and _shapes(
            ObjectKey(*question.suspect), connection.state, shaped
        ):
            if session.rejected:
                refused.add(identity)
            elif session.in_sync and connection.acknowledged_version >= question.version:
                acknowledged.add(identity)
            else:
                pending += 1
    return Evidence(frozenset(acknowledged), frozenset(refused), pending)


def _shapes(key: ObjectKey, state: ScopeState | None, known: dict[int, bool]) -> bool:
    """Whether an object has a say in what a scope's proxies are sent; ``known`` holds answers by
    the identity of views, which scopes share."""
    if state is None:
        return False
    for view in state.target.views.values():
        if view.base is not None and view.base is not view:
            own = getattr(view.resources, "own", {})
            if any(key in item.origins for item in own.values()):
                return True
            view = view.base
        if id(view) not in known:
            known[id(view)] = any(key in item.origins for item in view.resources.values())
        if known[id(view)]:
            return True
    return False
