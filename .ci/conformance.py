# ruff: noqa: T201
"""Runs Lateen on other people's cases: `conformance.py CORPUS [--only a,b]`.

CORPUS is a folder with one folder per corpus (`validation`, `routing` ...), each with an
`index.json`. Prints `NAME: N passed, N failed` per corpus, then each difference; exit 1 if there
is one. A corpus that nothing answers for yet is named when it was asked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT))

CORPORA = (
    "validation",
    "analyze",
    "authz",
    "gateway-api",
    "routing",
    "simulation",
    "ambient-authz",
    "envoyfilter",
)


@dataclass
class Outcome:
    """How many cases passed, and what each failed one said."""

    passed: int = 0
    failures: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)


# Cases whose expectation does not hold, with the reason. Kept under 2 % of a corpus.
EXCUSED: dict[str, dict[str, str]] = {
    "validation": {
        "authorizationpolicy-authorizationpolicy-30": (
            "upstream gives an empty Go value that YAML cannot express; `rules: [{}]` is the "
            "documented way to match every request, and is valid in other cases"
        )
    }
}

Adapter = Callable[[Path], Outcome]


def validation(folder: Path) -> Outcome:
    """Objects with a verdict: valid or invalid, with or without a warning."""
    from lateen.api.findings import Severity
    from lateen.api.parse import parse_documents
    from lateen.api.validate import validate_all

    outcome = Outcome()
    for case in json.loads((folder / "index.json").read_text()):
        result = parse_documents((folder / case["file"]).read_text(), case["file"])
        findings = [*result.findings, *validate_all(result.resources)]
        errors = [found for found in findings if found.severity is Severity.ERROR]
        warnings = [found for found in findings if found.severity is Severity.WARNING]
        said = "; ".join(f"{'.'.join(map(str, f.path))}: {f.message}" for f in errors + warnings)
        problem = ""
        if bool(errors) != (case["verdict"] == "invalid"):
            wanted = case.get("error_keyword") or case.get("crd_reason") or ""
            problem = f"should be {case['verdict']} ({wanted})"
        elif case.get("warning") is not None and bool(warnings) != case["warning"]:
            problem = f"should {'warn' if case['warning'] else 'not warn'}"
        if not problem:
            outcome.passed += 1
        elif case["id"] in EXCUSED["validation"]:
            outcome.excused.append(f"{case['id']}: {EXCUSED['validation'][case['id']]}")
        else:
            outcome.failures.append(f"{case['id']}: {problem}; said: {said or 'nothing'}")
    return outcome


def _adapter(name: str) -> Adapter | None:
    """The function that answers for a corpus: here, or in `tests/conformance/NAME.py`."""
    if name == "validation":
        return validation
    module_name = f"tests.conformance.{name.replace('-', '_')}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            return None
        raise

    def run(folder: Path) -> Outcome:
        passed, failures = module.run(folder)
        return Outcome(passed, failures)

    return run


def main() -> int:
    """Run the corpora that were asked for, or all that something answers for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("corpus", type=Path, help="folder with one folder per corpus")
    parser.add_argument("--only", default="", help="corpora to run, separated by commas")
    arguments = parser.parse_args()
    asked = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in asked if name not in CORPORA]
    if unknown:
        print(f"unknown corpus {', '.join(unknown)}; there are {', '.join(CORPORA)}")
        return 2
    if not arguments.corpus.is_dir():
        print(f"{arguments.corpus} is not a folder: set CORPUS to the folder with the cases")
        return 2
    failed = False
    for name in asked or CORPORA:
        folder = arguments.corpus / name
        adapter = _adapter(name)
        if adapter is None:
            if asked:
                print(f"{name}: not built yet")
            continue
        if not (folder / "index.json").is_file():
            if asked:
                print(f"{name}: no cases in {folder}")
                failed = True
            continue
        outcome = adapter(folder)
        print(f"{name}: {outcome.passed} passed, {len(outcome.failures)} failed")
        for line in outcome.excused:
            print(f"  excused {line}")
        for line in outcome.failures:
            print(f"  {line}")
        failed = failed or bool(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
