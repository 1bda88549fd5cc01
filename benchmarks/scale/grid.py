"""How cost grows with services and proxies: a server for each number of services, to which ever
more proxies connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from benchmarks.scale.mesh import Size
from benchmarks.scale.scenarios import SCENARIOS, Bench, Result

SERVICES = (100, 1000, 5000)
PROXIES = (100, 500, 1000, 2000)
_SCENARIOS = ("endpoint-change", "route-change", "private-route-change")


def grid(
    open_bench: Callable[[Size], AbstractContextManager[Bench]],
    size: Size,
    *,
    services: Sequence[int] = SERVICES,
    proxies: Sequence[int] = PROXIES,
) -> Iterator[Result]:
    """The results of each size in turn, ``proxies`` ascending.

    Small meshes get more endpoints a service, so that there is a pod for each proxy.
    """
    most = max(proxies)
    for count in services:
        endpoints = max(size.endpoints, -(-most // count))
        whole = replace(size, services=count, endpoints=endpoints, proxies=most)
        with open_bench(whole) as bench:
            for connected in proxies:
                bench.fleet.limit(connected)
                bench.size = replace(whole, proxies=connected)
                for name in _SCENARIOS:
                    yield SCENARIOS[name](bench)
