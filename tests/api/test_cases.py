"""Each `cases/NAME.yaml` says what `cases/NAME.findings` has; `pytest --update` rewrites it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lateen.api.findings import Finding
from lateen.api.locate import with_positions
from lateen.api.parse import parse_documents
from lateen.api.rules import api_rules
from lateen.api.validate import validate_all

CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))


def line_of(finding: Finding) -> str:
    place = f"{finding.line}:{finding.column}"
    path = ".".join(map(str, finding.path))
    text = f"{place} {finding.severity.value} {finding.rule} {path}: {finding.message}"
    return f"{text}\n    {finding.hint}" if finding.hint else text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_findings(case: Path, update: bool) -> None:
    text = case.read_text()
    result = parse_documents(text, case.name)
    findings = [*result.findings, *validate_all(result.resources)]
    located = sorted(with_positions(findings, lambda _: text), key=lambda f: (f.line, f.column))
    actual = "".join(f"{line_of(finding)}\n" for finding in located)
    golden = case.with_suffix(".findings")
    if update:
        golden.write_text(actual)
    assert actual == golden.read_text()


def test_every_golden_file_has_its_case() -> None:
    names = {case.stem for case in CASES}
    assert {path.stem for path in (Path(__file__).parent / "cases").glob("*.findings")} == names


def test_every_finding_has_a_documented_rule() -> None:
    for case in CASES:
        result = parse_documents(case.read_text())
        for finding in [*result.findings, *validate_all(result.resources)]:
            assert finding.rule in api_rules()
