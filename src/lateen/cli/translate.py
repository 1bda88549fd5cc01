"""`lateen translate`: the Envoy configuration for files, without a mesh."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lateen.api.parse import parse_object, to_raw
from lateen.api.resource import ObjectKey, Provenance, Resource
from lateen.cli.errors import ENVIRONMENT, FINDING, USAGE, CommandError
from lateen.cli.findings import print_findings, sort_key
from lateen.cli.kinds import resolve
from lateen.cli.options import Files, Namespace, Output, Recursive
from lateen.cli.output import emit, err
from lateen.cli.validate import all_findings, objects_without_errors
from lateen.envoy.build import resources
from lateen.envoy.decode import to_dict
from lateen.envoy.loading import check as load_check
from lateen.ir.dump import configuration as ir_data
from lateen.model.proxies import proxy_of
from lateen.model.scope import scope_of
from lateen.model.snapshot import Snapshot, snapshot_of
from lateen.runtime.controllers import PLANNERS, pod_from_template
from lateen.runtime.injection import decide, inject
from lateen.runtime.workload_plan import NewPod, template_hash
from lateen.source.embedded import EmbeddedSource
from lateen.source.files import read_inputs
from lateen.source.store import Store
from lateen.source.writing import Document, Writer
from lateen.translate.configuration import translate as translate_scope

Raw = dict[str, Any]


def translate(
    files: Files,
    workload: Annotated[
        str,
        typer.Option("--workload", help="KIND/NAME[.NAMESPACE], for instance deploy/reviews-v1."),
    ],
    namespace: Namespace = "default",
    recursive: Recursive = False,
    output: Output = "yaml",
    ir: Annotated[
        bool, typer.Option("--ir", help="The explained intermediate form instead of Envoy's.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load the result in the real Envoy as well.")
    ] = False,
) -> None:
    """Print the Envoy configuration that these files mean for a workload's proxy, offline.

    Every workload of the files gets its pods with made-up addresses, so that endpoints show.
    """
    inputs = read_inputs(files, recursive=recursive, default_namespace=namespace)
    findings = sorted(all_findings(inputs), key=sort_key)
    snapshot = offline_snapshot(objects_without_errors(inputs, findings))
    pod = _pod_of(snapshot, workload, namespace)
    result = translate_scope(snapshot, scope_of(snapshot, proxy_of(snapshot, pod)))
    print_findings([*findings, *result.findings], inputs.texts.get)
    if ir:
        emit(ir_data(result), "yaml" if output == "text" else output)
        return
    built = resources(result)
    if check:
        problems = load_check(item for named in built.values() for item in named.values())
        for problem in problems:
            err.print(f"Envoy: {problem}", markup=False)
        if problems:
            raise CommandError("Envoy does not take this configuration", "", FINDING)
    data = {
        url.rpartition(".")[2]: [to_dict(item) for item in named.values()]
        for url, named in built.items()
        if named
    }
    emit(data, "yaml" if output == "text" else output)


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


def _pod_of(snapshot: Snapshot, workload: str, namespace: str) -> Resource:
    kind_name, slash, name = workload.partition("/")
    if not slash:
        raise CommandError(f"{workload!r} is not KIND/NAME", "deploy/reviews-v1", USAGE)
    kind = resolve(kind_name).kind
    name, dot, place = name.partition(".")
    place = place if dot else namespace
    for (where, _), pod in snapshot.of_kind("", "Pod").items():
        owners = pod.metadata.owner_references
        mine = (
            pod.key.name == name
            if kind == "Pod"
            else any(owner.kind == kind and owner.name == name for owner in owners)
        )
        if where == place and mine:
            return pod
    raise CommandError(
        f"the files hold no {kind} {place}/{name}",
        "name one of their workloads with --workload KIND/NAME[.NAMESPACE]",
        ENVIRONMENT,
    )
