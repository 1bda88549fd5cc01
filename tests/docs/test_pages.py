"""What the documentation shows is true: generated pages, links, YAML, commands, tables."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from docs.tools import generate
from docs.tools.effects import ACTED_ON, NONE, kind_effect
from docs.tools.rules import all_rules
from lateen.api.findings import Severity
from lateen.api.kinds import KindInfo, all_kinds
from lateen.api.meshconfig.reading import parse_mesh_config
from lateen.api.parse import parse_documents
from lateen.api.validate import validate_all
from lateen.cli.main import COMMANDS, build
from lateen.envoy.telemetry import JSON_FORMAT
from lateen.serve.main import make_parser
from lateen.translate.unused_kinds import NOT_ACTED_ON
from tests.docs.pages import (
    DOCS,
    ROOT,
    Block,
    all_pages,
    anchors,
    blocks,
    inline_commands,
    links,
    written_pages,
)

OUR_MAKE_TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_generated_pages_are_up_to_date() -> None:
    assert generate.stale() == [], "run: python -m docs.tools.generate"


@pytest.mark.parametrize("page", all_pages(), ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_name(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{_name(page)}: {link}"


@pytest.mark.parametrize("page", all_pages(), ids=_name)
def test_tables_are_even(page: Path) -> None:
    width = 0
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        assert cells == (width or cells), f"{_name(page)}: {line}"
        width = cells


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_valid(block: Block) -> None:
    if "mesh config" in block.remarks:
        _, remarks = parse_mesh_config(block.text)
        assert not [finding.message for finding in remarks]
        return
    parsed = parse_documents(block.text, path=str(block))
    findings = [*parsed.findings, *validate_all(parsed.resources)]
    wrong = [f.message for f in findings if f.severity is not Severity.INFO]
    if "with an error" in block.remarks:
        assert wrong
    else:
        assert parsed.resources
        assert not wrong


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_commands_exist(block: Block) -> None:
    assert block.commands, "a console block shows commands after `$ `"
    for command in block.commands:
        for part in re.split(r"\s(?:\||&&|;)\s", command.text.split("\n")[0]):
            check_command(shlex.split(part, comments=True))


@pytest.mark.parametrize("page", written_pages(), ids=_name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for text in inline_commands(page):
        check_command(shlex.split(text.replace("...", "X")))


def check_command(words: list[str]) -> None:
    """A call of `lateen` parses, a target of `make` exists, a module can be found."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, rest = words[0], words[1:]
    if program == "lateen":
        _check_lateen(rest)
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        assert set(targets) <= set(OUR_MAKE_TARGETS), targets
    elif program.endswith("python") and rest[:1] == ["-m"]:
        assert rest[1] == "pip" or _can_run(rest[1]), rest[1]


def _can_run(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


def _check_lateen(words: list[str]) -> None:
    if not words or words[0].startswith("-"):
        return
    name = words[0]
    if name == "COMMAND":
        return
    assert name in COMMANDS, f"there is no command {name}"
    program = typer.main.get_command(build([name]))
    command = program.commands[name] if isinstance(program, TyperGroup) else program
    assert isinstance(command, TyperCommand)
    known = {
        option: parameter
        for parameter in command.params
        if isinstance(parameter, TyperOption)
        for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help": None}
    if name == "control-plane":
        # Its options go to the process as they are.
        known |= dict.fromkeys(re.findall(r"--[a-z-]+", make_parser().format_help()))
    if name == "exec":
        words = words[: words.index("--")] if "--" in words else words[:2]
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("-") and option not in ("-", "--"):
            assert option in known, f"lateen {name} has no option {option}"


def test_every_kind_says_what_it_does() -> None:
    for info in all_kinds().values():
        effect, note = kind_effect(info)
        assert effect
        assert note.endswith(".")
    assert not ACTED_ON.keys() & NOT_ACTED_ON.keys()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (DOCS / "dependencies.md").read_text()
    listed = set(re.findall(r"`([a-z0-9-]+)`", page))
    for requirement in project["dependencies"]:
        name = re.split(r"[<>=\[]", requirement, maxsplit=1)[0].strip()
        assert name in listed, f"docs/dependencies.md has no reason for {name}"


def test_every_field_of_the_access_log_is_explained() -> None:
    page = (DOCS / "telemetry.md").read_text()
    explained = set(re.findall(r"`([a-z_]+)`", page.partition("## Access log")[2]))
    assert set(JSON_FORMAT) <= explained


def test_every_metric_and_label_is_explained() -> None:
    source = (ROOT / "src/lateen/envoy/telemetry.py").read_text()
    page = (DOCS / "telemetry.md").read_text()
    for name in set(re.findall(r'"(istio_[a-z_]+)"', source)):
        assert f"`{name}`" in page, name
    labels = set(re.findall(r"`((?:source|destination)_[a-z_]+|reporter|re[a-z]+_[a-z_]+)`", page))
    from lateen.envoy import telemetry
    from lateen.ir.listener import Reporter

    chain = telemetry.Chain(Reporter.DESTINATION, True, False)
    for tag in (*telemetry._http_tags(chain), *telemetry._tcp_tags(chain)):
        assert tag["name"] in labels | {"grpc_response_status", "connection_security_policy"}


def test_messages_that_are_explained_are_those_of_the_program() -> None:
    """First column of the tables of messages: what is quoted there is said somewhere."""
    said = "\n".join(
        re.sub(r"\s+", " ", text)
        for path in (ROOT / "src").rglob("*.py")
        for text in _texts(ast.parse(path.read_text(encoding="utf-8")))
    )
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    tables = page.partition("### Response flags")[0]
    for row in re.findall(r"^\| (`[^|]*`[^|]*) \|", tables, re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", row):
            for part in re.split(r"\.\.\.|\b(?:N|X|NAME|FOLDER|cds|30)\b|1/2", message):
                assert part.strip(" :") in said, f"nothing says {part.strip()!r}"


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values
            )


def test_rules_in_the_text_exist() -> None:
    for page in written_pages():
        for rule in set(re.findall(r"\bLT\d{4}\b", page.read_text())):
            assert rule in all_rules(), f"{_name(page)}: {rule}"


def test_paths_in_the_text_exist() -> None:
    for page in written_pages():
        for path in set(
            re.findall(r"`((?:src|samples|tests|docs|benchmarks|\.ci)/[\w./-]*)`", page.read_text())
        ):
            assert (ROOT / path).exists(), f"{_name(page)}: {path}"


def test_modules_in_the_text_exist() -> None:
    for page in written_pages():
        for module in set(re.findall(r"`(lateen(?:\.[a-z_]+)+)`", page.read_text())):
            path = ROOT / "src" / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), f"{_name(page)}: {module}"
        for module in set(re.findall(r"`python -m ((?:benchmarks|docs)[\w.]+)", page.read_text())):
            assert _can_run(module), f"{_name(page)}: {module}"


def test_the_readme_begins_with_the_two_commands() -> None:
    first = [block for block in blocks("console") if block.page == ROOT / "README.md"][:1]
    assert [command.words[:2] for block in first for command in block.commands] == [
        ["make", "demo"],
        ["make", "test"],
    ]


def _areas() -> list[list[str]]:
    """Rows of README's first table: area, what works, what has no effect yet."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*) \|$", text.partition("| Area |")[2], re.MULTILINE)
    return [row.split(" | ") for row in rows[:5]]


def test_the_readme_says_which_kinds_work() -> None:
    """Each kind without effect is named as such, and none that has one."""
    works = " ".join(row[1] for row in _areas())
    idle = " ".join(row[2] for row in _areas())
    beside = {"ServiceImport", "ServiceExport", "InferencePool"}  # several clusters, Gateway API
    for (group, kind), info in all_kinds_by_group().items():
        effect, _ = kind_effect(info)
        if "gateway.networking" in group:
            assert effect == NONE, f"README says that the Gateway API has no effect: {kind}"
        elif group.endswith("istio.io") or effect == NONE:
            if info.inert or kind in beside or kind == "IstioOperator":
                continue
            column = idle if effect == NONE else works
            assert re.search(rf"\b{kind}\b", column), f"README: {kind} is not in the right column"
    assert "Gateway API" in idle


def all_kinds_by_group() -> dict[tuple[str, str], KindInfo]:
    return {(info.group, info.kind): info for info in all_kinds().values()}


def test_the_readme_says_early_what_works() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.partition("| Area |")[0].splitlines()) < 15


def test_nothing_names_a_command_that_does_not_exist() -> None:
    places = [*all_pages(), *(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.py")]
    for path in places:
        for name in re.findall(r"`lateen ([a-z][a-z-]+)", path.read_text(encoding="utf-8")):
            assert name in COMMANDS, f"{path}: lateen {name}"
        if path.suffix == ".md" or "lateen/cli" in str(path):
            assert "`analyze`" not in path.read_text(encoding="utf-8"), path
