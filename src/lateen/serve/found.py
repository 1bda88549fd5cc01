"""Everything that is wrong among the objects of the mesh, found when somebody asks."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING

from lateen.api.findings import Finding
from lateen.model.rules import SELECTS_NOTHING
from lateen.model.selection import selects
from lateen.model.snapshot import Snapshot

if TYPE_CHECKING:
    from lateen.serve.expiry import Ending


class Found:
    """Keeps the findings of the newest snapshot that was asked about."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._findings: tuple[Finding, ...] = ()
        self._endings: tuple[Ending, ...] = ()

    async def of(self, snapshot: Snapshot) -> tuple[Finding, ...]:
        """All findings of ``snapshot``. The event loop gets its turn between two views."""
        from lateen.serve.expiry import endings, expiry_findings
        from lateen.translate.mesh_findings import each_view, ordered
        from lateen.translate.unused_kinds import snapshot_findings

        now = datetime.datetime.now(datetime.UTC)
        if self._snapshot is snapshot:
            return (*self._findings, *expiry_findings(self._endings, now))
        references: list[Finding] = []
        for part in each_view(snapshot):
            references += part
            await asyncio.sleep(0)
        self._findings = (
            *(item for item in snapshot.findings if not _waits_for_pods(snapshot, item)),
            *ordered(iter(references)),
            *snapshot_findings(snapshot),
        )
        self._endings = endings(snapshot)
        self._snapshot = snapshot
        return (*self._findings, *expiry_findings(self._endings, now))


_TEMPLATES = (
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
)


def _waits_for_pods(snapshot: Snapshot, finding: Finding) -> bool:
    """Whether a Service selects nothing only because the pods of a workload are not made yet."""
    if finding.rule != SELECTS_NOTHING.id or finding.key is None:
        return False
    service = snapshot.get(finding.key)
    selector = getattr(getattr(service and service.object, "spec", None), "selector", None)
    if not selector:
        return False
    for kind in _TEMPLATES:
        for workload in snapshot.in_namespace(*kind, finding.key.namespace).values():
            spec = getattr(workload.object, "spec", None)
            template = getattr(spec, "template", None)
            labels = template.metadata.labels if template is not None else {}
            if getattr(spec, "replicas", 1) != 0 and selects(selector, labels):
                return True
    return False
