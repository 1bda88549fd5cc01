"""A grid of sizes: what a change costs follows the proxies that it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.scale.fleet import Fleet
from benchmarks.scale.grid import grid
from benchmarks.scale.mesh import Size
from benchmarks.scale.plane import LateenPlane, proxy_specs
from benchmarks.scale.report import scaling_plots
from benchmarks.scale.scenarios import Bench


@pytest.mark.timeout(90)
def test_each_size_is_measured_with_the_proxies_that_it_has(tmp_path: Path) -> None:
    @contextmanager
    def open_bench(size: Size) -> Iterator[Bench]:
        plane = LateenPlane(tmp_path, size, options=("--debounce", "0.05"))
        specs = proxy_specs(size, tmp_path / "certificates", plane.authority)
        fleet = Fleet(specs, plane.place, delta=True, workers=1)
        try:
            yield Bench(size, plane, fleet, "delta", 1, 0.05, 1.0, limit=30.0)
        finally:
            fleet.close()
            plane.close()

    size = Size(services=10, endpoints=2, proxies=1, namespaces=2)
    results = list(grid(open_bench, size, services=(10,), proxies=(4, 24)))
    found = {(r.scenario, r.size.proxies): (r.size.endpoints, r.proxies_reached) for r in results}
    assert found == {
        ("endpoint-change", 4): (3, 4),
        ("route-change", 4): (3, 4),
        ("private-route-change", 4): (3, 2),
        ("endpoint-change", 24): (3, 24),
        ("route-change", 24): (3, 24),
        ("private-route-change", 24): (3, 12),
    }
    assert not any(result.errors for result in results)
    assert sorted(scaling_plots(results)) == [
        "scale-bytes.svg",
        "scale-cpu.svg",
        "scale-last-ack.svg",
        "scale-memory.svg",
    ]
