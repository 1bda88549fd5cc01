"""`lateen translate`: the Envoy configuration for files, without a mesh."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lateen.api.findings import Severity
from lateen.api.locate import with_positions
from lateen.api.resource import Resource
from lateen.cli.errors import ENVIRONMENT, FINDING, USAGE, CommandError
from lateen.cli.findings import print_findings, sort_key
from lateen.cli.kinds import resolve
from lateen.cli.offline import offline_snapshot
from lateen.cli.options import DataOutput, Files, Namespace, Recursive
from lateen.cli.output import emit, err
from lateen.cli.validate import all_findings, objects_without_errors
from lateen.envoy.build import resources
from lateen.envoy.decode import to_dict
from lateen.envoy.loading import check as load_check
from lateen.ir.dump import configuration as ir_data
from lateen.model.proxies import proxy_of
from lateen.model.scope import scope_of
from lateen.model.snapshot import Snapshot
from lateen.source.files import read_inputs
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
    output: DataOutput = "yaml",
    ir: Annotated[
        bool, typer.Option("--ir", help="The explained intermediate form instead of Envoy's.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load the result in the real Envoy as well.")
    ] = False,
) -> None:
    """Print the Envoy configuration that these files mean for a workload's proxy, offline.

    Every workload of the files gets its pods with made-up addresses, so that endpoints show.
    Findings go to standard error; exit status 1 when one is an error.
    """
    inputs = read_inputs(files, recursive=recursive, default_namespace=namespace)
    findings = sorted(all_findings(inputs), key=sort_key)
    snapshot = offline_snapshot(objects_without_errors(inputs, findings))
    pod = _pod_of(snapshot, workload, namespace)
    result = translate_scope(snapshot, scope_of(snapshot, proxy_of(snapshot, pod)))
    found = [*findings, *with_positions(result.findings, inputs.texts.get)]
    # Standard output is for the configuration, which programs read.
    print_findings(found, inputs.texts.get, err)
    wrong = any(finding.severity is Severity.ERROR for finding in found)
    if ir:
        emit(ir_data(result), output)
        if wrong:
            raise typer.Exit(FINDING)
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
    emit(data, output)
    if wrong:
        raise typer.Exit(FINDING)


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
