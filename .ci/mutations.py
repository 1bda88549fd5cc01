"""Takes fields out of what Envoy is sent, one at a time, and sees that a test fails each time.

Run as ``python .ci/mutations.py [--only PART-OF-A-NAME]``. A mutation is one edit of the source, in
a copy of it, and the test that has to notice. Prints a line for each, then ``mutations: N noticed,
M not``; exit status 1 when a test passes all the same, 2 when an edit does not fit the source.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    """``old`` occurs once in ``file`` and becomes ``new``; then ``test`` fails."""

    name: str
    file: str
    old: str
    new: str
    test: str


def mutations() -> list[Mutation]:
    """Those of ``mutations.yaml``."""
    data = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
    return [Mutation(**entry) for entry in data]


def noticed(mutation: Mutation, python: str) -> bool:
    """Whether the test fails in a copy of the source with the edit. Raises ValueError."""
    with tempfile.TemporaryDirectory(prefix="lateen-mutation-") as directory:
        copy = Path(directory)
        # The control plane and the pods, users of their own, run from it as well.
        copy.chmod(0o755)
        for name in ("src", "tests", "samples", "pyproject.toml"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        file = copy / mutation.file
        text = file.read_text()
        if text.count(mutation.old) != 1:
            raise ValueError(f"{mutation.name}: {mutation.file} has not one {mutation.old!r}")
        file.write_text(text.replace(mutation.old, mutation.new))
        done = subprocess.run(
            [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.test],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1) or " error" in done.stdout.splitlines()[-1]:
            raise ValueError(
                f"{mutation.name}: the test did not run:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        return done.returncode == 1


def main() -> int:
    """Try them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="those with this in their name")
    options = parser.parse_args()
    missed = tried = 0
    for mutation in mutations():
        if options.only not in mutation.name:
            continue
        tried += 1
        try:
            found = noticed(mutation, sys.executable)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        missed += not found
        sys.stdout.write(f"{'noticed' if found else 'NOT NOTICED'}: {mutation.name}\n")
        sys.stdout.flush()
    sys.stdout.write(f"mutations: {tried - missed} noticed, {missed} not\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
