"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lateen.cli.completion import mesh_names, namespaces
from lateen.cli.output import name_mesh

Files = Annotated[
    list[str],
    typer.Option("-f", "--filename", help="File, folder, glob or - (standard input); repeatable."),
]
Mesh = Annotated[
    str,
    typer.Option(
        "--mesh",
        envvar="LATEEN_MESH",
        help="Which mesh.",
        callback=name_mesh,
        autocompletion=mesh_names,
    ),
]
Output = Annotated[
    Literal["text", "json", "yaml"], typer.Option("-o", "--output", help="How it is written.")
]
DataOutput = Annotated[
    Literal["json", "yaml"], typer.Option("-o", "--output", help="How it is written.")
]
Namespace = Annotated[
    str,
    typer.Option(
        "-n",
        "--namespace",
        help="Namespace of objects that name none.",
        autocompletion=namespaces,
    ),
]
PodNamespace = Annotated[
    str,
    typer.Option(
        "-n", "--namespace", help="Only pods of this namespace.", autocompletion=namespaces
    ),
]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="In all namespaces.")]
Recursive = Annotated[
    bool, typer.Option("-R", "--recursive", help="Read the folders below a folder too.")
]
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Return when every affected proxy has acknowledged."),
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait.")]
