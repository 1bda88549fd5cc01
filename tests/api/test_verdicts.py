"""Objects whose names begin with the verdict they must get: refused, warned or accepted.

Each file of ``verdicts`` has one kind. ``refused-*`` has an error, ``warned-*`` warnings only,
``accepted-*`` neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lateen.api.findings import Finding, Severity
from lateen.api.parse import parse_object
from lateen.api.validate import validate
from lateen.api.yamltext import load, split_documents

FILES = sorted((Path(__file__).parent / "verdicts").glob("*.yaml"))


def _objects() -> Iterator[tuple[str, dict[str, object]]]:
    for file in FILES:
        for document in split_documents(file.read_text()):
            table = load(document)
            assert isinstance(table, dict)
            base = {"apiVersion": table["apiVersion"], "kind": table["kind"]}
            for name, spec in table["objects"].items():
                meta = {
                    "name": name,
                    "namespace": "shop",
                    **table.get("metadata", {}).get(name, {}),
                }
                yield f"{table['kind']}/{name}", {**base, "metadata": meta, "spec": spec}


OBJECTS = dict(_objects())


@pytest.mark.parametrize("name", OBJECTS)
def test_verdict(name: str) -> None:
    remarks: list[Finding] = []
    outcome = parse_object(OBJECTS[name], remarks=remarks)
    findings = outcome if isinstance(outcome, list) else remarks + validate(outcome)
    severities = {finding.severity for finding in findings}
    if Severity.ERROR in severities:
        verdict = "refused"
    else:
        verdict = "warned" if Severity.WARNING in severities else "accepted"
    assert name.split("/")[1].startswith(verdict), findings
