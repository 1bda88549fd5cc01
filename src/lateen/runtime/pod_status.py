"""A Pod's status as Kubernetes shapes it: a pure function of what the node knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lateen.runtime.raw import Raw, now


@dataclass(slots=True)
class Conditions:
    """Remembers since when each condition holds."""

    _since: dict[str, tuple[bool, str]] = field(default_factory=dict)

    def data(self, messages: Mapping[str, str], **holds: bool) -> list[Raw]:
        """``PodCondition`` entries; ``lastTransitionTime`` changes only with the value.

        ``messages`` are given with the conditions of these names that do not hold.
        """
        entries = []
        for kind, value in holds.items():
            known = self._since.get(kind)
            if known is None or known[0] != value:
                known = self._since[kind] = (value, now())
            entry: Raw = {
                "type": kind,
                "status": "True" if value else "False",
                "lastTransitionTime": known[1],
            }
            if not value and messages.get(kind):
                entry["message"] = messages[kind]
            entries.append(entry)
        return entries


def waiting_statuses(containers: Sequence[Raw], reason: str, message: str) -> list[Raw]:
    """``ContainerStatus`` of containers that wait for something."""
    return [
        {
            "name": str(raw["name"]),
            "image": str(raw.get("image", "")),
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }
        for raw in containers
    ]


def proxy_status(name: str, *, ready: bool, restarts: int, running_since: str) -> Raw:
    """``ContainerStatus`` of the proxy; an empty ``running_since`` means not started."""
    state: Raw = (
        {"running": {"startedAt": running_since}}
        if running_since
        else {"waiting": {"reason": "ContainerCreating"}}
    )
    return {
        "name": name,
        "image": "envoy",
        "ready": ready,
        "restartCount": restarts,
        "state": state,
    }
