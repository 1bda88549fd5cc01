"""Each rule of the documentation is said by the program, of a small input that it is about."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs.tools.rules import ELSEWHERE, all_rules
from lateen.api.parse import parse_documents, to_raw
from lateen.api.resource import Resource
from lateen.api.yamltext import MAX_TEXT
from lateen.cli.validate import validate
from lateen.model.snapshot import snapshot_of
from lateen.source.files import read_inputs
from lateen.source.store import Store
from lateen.source.watch import mirror
from lateen.source.writing import Document, Outcome, Writer
from tests.docs.pages import DOCS, ROOT

PROMISES = Path(__file__).with_name("promises")
EXAMPLES = sorted(PROMISES.glob("LT*.yaml"))
GOLDEN = ("tests/api/cases", "tests/api_groups/cases")
"""Folders of inputs with all that validation says of them."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_validate_says_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = validated(path, capsys)
    rules = {item["rule"] for item in found}
    assert path.stem in rules, f"{path.name}: {found}"
    (said, *_) = [item for item in found if item["rule"] == path.stem]
    assert said["file"] == str(path)
    assert said["line"], said
    assert said["message"]
    # The example is about one thing: nothing else is wrong with it.
    errors = {item["rule"] for item in found if item["severity"] == "error"}
    assert errors <= {path.stem}, found


def validated(path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What `lateen validate -f PATH -o json` says."""
    try:
        validate([str(path)], "json")
    except BaseException as end:  # typer's way to end with a status
        if type(end).__name__ != "Exit":
            raise
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["findings"]
    return found


def test_each_rule_of_the_page_is_said_somewhere() -> None:
    shown = {path.stem for path in EXAMPLES}
    for folder in GOLDEN:
        for path in (ROOT / folder).glob("*.findings"):
            shown |= set(re.findall(r"LT\d{4}", path.read_text(encoding="utf-8")))
    promised = set(re.findall(r"^\| (LT\d{4}) ", (DOCS / "rules.md").read_text(), re.MULTILINE))
    assert promised == set(all_rules())
    assert sorted(promised - shown - set(ELSEWHERE)) == []
    assert sorted(shown & set(ELSEWHERE)) == []


def test_rules_that_troubleshooting_names_have_an_example() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    named = set(re.findall(r"LT\d{4}", text))
    assert named
    assert named <= {path.stem for path in EXAMPLES}


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: default}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}
"""


def test_an_input_that_is_too_large() -> None:
    (finding,) = parse_documents("#" * (MAX_TEXT + 1)).findings
    assert (finding.rule, finding.severity) == ("LT0016", "error")


def test_apply_refuses_an_address_that_another_service_has() -> None:
    one, two = (parse_documents(SERVICE.replace("NAME", name)).resources[0] for name in "ab")
    outcomes = applied(Store(), one) + applied(Store(), one, two)
    assert [outcome.result for outcome in outcomes] == ["created", "created", "refused"]
    assert [finding.rule for finding in outcomes[-1].findings] == ["LT0802"]


def test_of_two_services_with_one_address_the_older_keeps_it() -> None:
    """In a mesh whose objects were not admitted here: another API server took both."""
    found = [parse_documents(SERVICE.replace("NAME", name)).resources[0] for name in "ab"]
    (finding,) = snapshot_of(found).findings
    assert finding.rule == "LT1001"


def test_what_is_no_readable_file_in_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.yaml").write_text(SERVICE)
    (tmp_path / "bad.yaml").write_bytes(b"a: \xff\n")
    (tmp_path / "folder.yaml").mkdir()
    assert "LT0801" in {item["rule"] for item in validated(tmp_path, capsys)}
    assert "LT0805" in {finding.rule for finding in read_inputs([str(tmp_path)]).findings}


async def test_a_watched_file_that_cannot_be_read(tmp_path: Path) -> None:
    made = mirror(Store(), tmp_path)
    made.settle = 0.01
    (tmp_path / "a.yaml").write_bytes(b"a: \xff\n")
    await made.settled()
    (state,) = made.files.values()
    assert [finding.rule for finding in state.findings] == ["LT0801"]


def applied(store: Store, *resources: Resource) -> list[Outcome]:
    documents = [Document(to_raw(resource), resource.provenance) for resource in resources]
    return list(Writer(store).apply(documents, "lateen", "test"))


@pytest.mark.parametrize("rule", ELSEWHERE)
def test_what_validate_cannot_see_has_a_test_of_its_own(rule: str) -> None:
    """By its identifier: what says it is on the page of rules."""
    tests = (ROOT / "tests").rglob("test_*.py")
    assert any(rule in path.read_text(encoding="utf-8") for path in tests)
