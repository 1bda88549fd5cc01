"""Every case in ``cases`` gives the IR beside it. A new case is only a new file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.translate import golden


@pytest.mark.parametrize("path", golden.paths(), ids=golden.name_of)
def test_case_gives_its_golden_ir(path: Path, update: bool) -> None:
    case = golden.read(path)
    text = golden.shown(case, golden.configuration(case))
    if update:
        case.expected.write_text(text)
    assert case.expected.exists(), "no golden file yet: run with --update and review it"
    assert text == case.expected.read_text()


def test_no_golden_file_without_its_case() -> None:
    expected = {golden.read(path).expected for path in golden.paths()}
    assert set(golden.CASES.glob("*/*.ir.yaml")) == expected


def test_cases_cover_every_sample_rule() -> None:
    used = {
        include
        for path in golden.paths()
        for include in golden.read(path).settings.get("include", [])
    }
    rules = (golden.ROOT / "samples/bookinfo/rules").glob("*.yaml")
    missing = {str(path.relative_to(golden.ROOT)) for path in rules} - used
    assert not missing
