"""Permission bits of volumes."""

from __future__ import annotations

import pytest

from lateen.api.parse import parse_documents
from lateen.api.validate import validate_all

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: a, image: a}]
  volumes: [{name: v, VOLUME}]
"""


def told(volume: str) -> list[tuple[str, str, str]]:
    result = parse_documents(POD.replace("VOLUME", volume))
    assert not result.findings
    return [
        (item.rule, ".".join(map(str, item.path[3:])), item.hint)
        for item in validate_all(result.resources)
    ]


@pytest.mark.parametrize(
    ("volume", "path"),
    [
        ("configMap: {name: c, defaultMode: 755}", "configMap.defaultMode"),
        ("secret: {secretName: s, defaultMode: 755}", "secret.defaultMode"),
        ("configMap: {name: c, items: [{key: k, path: p, mode: 755}]}", "configMap.items.0.mode"),
        ("projected: {defaultMode: 755}", "projected.defaultMode"),
        (
            "projected: {sources: [{secret: {name: s, items: [{key: k, path: p, mode: 755}]}}]}",
            "projected.sources.0.secret.items.0.mode",
        ),
        ("downwardAPI: {defaultMode: 755}", "downwardAPI.defaultMode"),
        ("downwardAPI: {items: [{path: p, mode: 755}]}", "downwardAPI.items.0.mode"),
    ],
)
def test_a_mode_without_a_leading_zero_is_refused_with_the_octal_form(
    volume: str, path: str
) -> None:
    [(rule, where, hint)] = told(volume)
    assert (rule, where) == ("LT0211", path)
    assert "0755 (in JSON 493)" in hint


@pytest.mark.parametrize("mode", ["0644", "0o644", "420", "0", "511", "0400"])
def test_modes_in_range_are_taken(mode: str) -> None:
    assert told(f"secret: {{secretName: s, defaultMode: {mode}}}") == []


@pytest.mark.parametrize("mode", ["512", "-1", "1777"])
def test_modes_out_of_range_are_refused(mode: str) -> None:
    assert len(told(f"secret: {{secretName: s, defaultMode: {mode}}}")) == 1


def test_a_usual_mode_in_decimal_is_told() -> None:
    [(_, _, hint)] = told("secret: {secretName: s, defaultMode: 400}")
    assert "0400 (in JSON 256)" in hint
