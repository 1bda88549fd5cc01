"""One mesh with Bookinfo for all tests of a session that only change rules in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.mesh import SAMPLES, Mesh, running


@pytest.fixture(scope="session")
def bookinfo() -> Iterator[Mesh]:
    """Bookinfo with its gateway and a client pod, as `make demo` has it."""
    with running("-f", str(SAMPLES / "bookinfo")) as mesh:
        yield mesh
