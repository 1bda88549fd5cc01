"""The `lateen` program: commands are imported when they are called, so that each starts fast."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Annotated, Any

import typer

from lateen import __version__
from lateen.cli.completion import words_so_far
from lateen.cli.errors import ENVIRONMENT, USAGE, CommandError

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module:function, one-line help), in the order of `lateen --help`
    "up": ("mesh:up", "Start a mesh on this machine from Kubernetes and Istio manifests."),
    "down": ("mesh:down", "Stop a mesh and remove all that is left of it."),
    "apply": ("apply:apply", "Write objects into a running mesh; returns when proxies have them."),
    "delete": ("delete:delete", "Delete objects from a running mesh."),
    "get": ("get:get", "Show objects."),
    "history": ("get:history", "Every change of an object: when, by whom, from which file."),
    "ps": ("pods:ps", "Pods with their readiness, restarts and addresses."),
    "logs": ("pods:logs", "Output of a container (or -c istio-proxy: the access log)."),
    "exec": ("pods:exec_", "Run a command in a pod."),
    "restart": ("pods:restart", "Replace the pods of a workload one by one."),
    "scale": ("pods:scale", "Set how many pods a workload has."),
    "status": (
        "status:status",
        "Per proxy: connected, acknowledged, rejected and by which object.",
    ),
    "config": ("config:config", "What a proxy runs now."),
    "translate": ("translate:translate", "The Envoy configuration for files, offline."),
    "validate": ("validate:validate", "Check files without a mesh."),
    "check": ("check:check", "Is this machine, is this mesh healthy; each failure with its fix."),
    "control-plane": ("processes:control_plane", "Run the control plane (for service managers)."),
    "agent": ("processes:agent", "Run the node's agent (for service managers)."),
}


def build(words: list[str]) -> typer.Typer:
    """The program with the one command that ``words`` call, or with all of them for the help."""
    app = typer.Typer(
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="A complete service mesh: Istio's YAML, stock Envoy, on this machine.",
    )
    app.callback()(_root)
    called = next((word for word in words if not word.startswith("-")), "")
    for name in [called] if called in COMMANDS else COMMANDS:
        place, summary = COMMANDS[name]
        module, _, function = place.partition(":")
        settings: dict[str, Any] = {}
        if name in ("exec", "control-plane"):
            # What follows belongs to the program that is run.
            settings["context_settings"] = {
                "ignore_unknown_options": True,
                "allow_interspersed_args": False,
                "help_option_names": ["-h", "--help"] if name == "exec" else [],
            }
        target = getattr(importlib.import_module(f"lateen.cli.{module}"), function)
        app.command(name, short_help=summary, **settings)(target)
    return app


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"lateen {__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


def run() -> None:
    """Entry point: exit 0 good, 1 a finding, 2 usage, 3 environment; never a stack trace."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # `up` runs for hours: what it says must reach a pipe or a log file at once.
        sys.stdout.reconfigure(line_buffering=True)
    sys.exit(_run())


def _run() -> int:
    from lateen.cli.output import complain, write_anything
    from lateen.source.client import ApiError, ApiUnavailable
    from lateen.source.files import InputError

    write_anything()
    try:
        build(words_so_far() or sys.argv[1:])()
    except CommandError as error:
        complain(str(error), error.hint)
        return error.status
    except InputError as error:
        complain(str(error), error.hint)
        return USAGE
    except ApiUnavailable as error:
        complain(str(error), "is the mesh running? `lateen up -f FILE` starts one")
        return ENVIRONMENT
    except ApiError as error:
        complain(str(error))
        return 1
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (`| head`) is gone; Python would complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
