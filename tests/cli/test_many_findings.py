"""However much is wrong with a file, `validate` ends soon and prints little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def validate(path: Path, *words: str) -> tuple[int, str]:
    """Exit status and standard output of the command."""
    argv = [sys.executable, "-m", "lateen", "validate", "-f", str(path), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    return done.returncode, done.stdout


INPUTS = {
    "duplicates": "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n" * 3000,
    "names": "".join(
        f"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: A_{number}}}\n"
        for number in range(3000)
    ),
    "not objects": "a: 1\n---\n" * 3000,
    "one line": "[" + ", ".join(["{kind: Pod, apiVersion: v1}"] * 3000) + "]\n",
    "a list on one line": "{apiVersion: v1, kind: List, items: ["
    + ", ".join(["{kind: Pod, apiVersion: v1, metadata: {name: A}}"] * 3000)
    + "]}\n",
    "long value": "apiVersion: v1\nkind: Service\nmetadata: {name: " + "x" * 300_000 + "}\n",
    "brackets": "x: " + "[" * 30_000,
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", INPUTS)
def test_much_that_is_wrong_is_said_in_few_words(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(INPUTS[name])
    status, text = validate(path)
    assert status == 1, text[-500:]
    assert len(text) < 150_000
    assert max(map(len, text.splitlines())) < 1500


def test_what_is_left_out_is_counted_and_programs_get_all(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(INPUTS["not objects"])
    _, text = validate(path)
    assert "and 2900 more; `-o json` lists all of them" in text
    assert "3000 errors" in text
    data = json.loads(validate(path, "-o", "json")[1])
    assert len(data["findings"]) == 3000


def test_a_long_line_is_shown_around_the_mistake(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    filler = ", ".join(f"k{number}: v" for number in range(500))
    path.write_text(
        "apiVersion: v1\nkind: ConfigMap\n"
        f"metadata: {{labels: {{{filler}}}, name: Wrong, annotations: {{{filler}}}}}\n"
    )
    _, text = validate(path)
    [shown] = [line for line in text.splitlines() if line.strip().startswith("> 3 |")]
    assert "name: Wrong" in shown
    assert "…" in shown
    caret = text.splitlines()[text.splitlines().index(shown) + 1]
    assert shown[caret.index("^") :].startswith("name: Wrong")
