"""What validation says about objects: each file in ``cases`` has its findings beside it.

``--update`` writes the findings anew; read the difference before committing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lateen.api.findings import Finding
from lateen.api.parse import parse_object
from lateen.api.rules import api_rules
from lateen.api.validate import validate
from lateen.api.yamltext import load, split_documents

CASES = Path(__file__).parent / "cases"
FILES = sorted(CASES.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_findings_of_objects(file: Path, request: pytest.FixtureRequest) -> None:
    found = "".join(_lines(file.read_text()))
    expected = file.with_suffix(".findings")
    if request.config.getoption("--update", default=False):
        expected.write_text(found)
    assert found == expected.read_text()


def test_every_expectation_belongs_to_a_case() -> None:
    assert {path.stem for path in CASES.glob("*.findings")} == {file.stem for file in FILES}


def test_every_rule_of_the_groups_is_shown_by_a_case() -> None:
    shown = "".join(path.read_text() for path in CASES.glob("*.findings"))
    groups = ("LT03", "LT04", "LT05", "LT06")
    missing = [name for name in api_rules() if name.startswith(groups) and name not in shown]
    assert not missing


def _lines(text: str) -> Iterator[str]:
    for document in split_documents(text):
        raw = load(document)
        assert isinstance(raw, dict)
        remarks: list[Finding] = []
        outcome = parse_object(raw, remarks=remarks)
        findings = outcome if isinstance(outcome, list) else remarks + validate(outcome)
        name = raw["metadata"]["name"]
        if not findings:
            yield f"{name}: ok\n"
        for finding in findings:
            path = ".".join(str(part) for part in finding.path)
            yield f"{name}: {finding.severity} {finding.rule} {path}: {finding.message}\n"
