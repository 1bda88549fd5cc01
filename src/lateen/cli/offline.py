"""What the mesh would be with the objects of some files, without running it."""

from __future__ import annotations

from typing import Any

from lateen.api.parse import parse_object, to_raw
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.cli.output import err
from lateen.model.snapshot import Snapshot, snapshot_of
from lateen.runtime.controllers import PLANNERS, pod_from_template
from lateen.runtime.injection import decide, inject
from lateen.runtime.workload_plan import NewPod, template_hash
from lateen.source.embedded import EmbeddedSource
from lateen.source.store import Store
from lateen.source.writing import Document, Writer

Raw = dict[str, Any]


def offline_snapshot(good: list[Resource]) -> Snapshot:
    """What the mesh would be with these objects: addresses given, pods made from workloads."""
    store = Store()
    writer = Writer(store)
    outcomes = writer.apply([Document(to_raw(r), r.provenance) for r in good], "lateen", "offline")
    for outcome in outcomes:
        for finding in outcome.findings if outcome.result == "refused" else ():
            err.print(f"{outcome.provenance}: {finding.message}", markup=False)
    batch = EmbeddedSource(store).start()
    found = [change.resource for change in batch.changes if change.resource is not None]
    return snapshot_of([*found, *_pods(store)])


def _pods(store: Store) -> list[Resource]:
    pods = []
    number = 16
    for stored in store.all():
        if stored.key.kind not in PLANNERS:
            continue
        raw = stored.raw
        for index in range(int((raw.get("spec") or {}).get("replicas", 1))):
            number += 1
            ready = {"type": "Ready", "status": "True"}
            address = f"10.244.{number >> 8}.{number & 255}"
            new = NewPod(template_hash(raw["spec"]["template"]), index)
            pod = pod_from_template(raw, stored.key.kind, new)
            space = store.get(ObjectKey("", "Namespace", "", stored.key.namespace))
            labels = (space.raw["metadata"].get("labels") or {}) if space else {}
            decision = decide(labels, pod)
            if decision.inject:
                pod = inject(pod, decision)
            pod["status"] = {"phase": "Running", "podIP": address, "conditions": [ready]}
            parsed = parse_object(pod, Provenance(origin="offline"))
            if isinstance(parsed, Resource):
                pods.append(parsed)
    return pods
