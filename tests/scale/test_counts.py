"""What changes cost, in counts: a regression from O(changed) to O(everything) fails here.

Small, with a real control plane process and real streams; no bound is on time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.scale.fleet import Fleet
from benchmarks.scale.mesh import Size
from benchmarks.scale.plane import LateenPlane, proxy_specs
from benchmarks.scale.scenarios import (
    Bench,
    Result,
    churn,
    cold_connect,
    endpoint_change,
    mesh_policy,
    namespace_policy,
    private_route_change,
    reconnect,
    rolling_restart,
    route_change,
    slow_readers,
)

SIZE = Size(services=40, endpoints=3, proxies=24, namespaces=4)
IN_NAMESPACE = SIZE.proxies // SIZE.namespaces
KILOBYTE = 1000

pytestmark = pytest.mark.timeout(90)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("scale")
    # What is counted must not depend on how fast this machine is: nothing is deferred here.
    options = ("--debounce", "0.05", "--verify-incremental", "--overload-after", "600")
    plane = LateenPlane(folder, SIZE, options=options)
    specs = proxy_specs(SIZE, folder / "certificates", plane.authority)
    fleet = Fleet(specs, plane.place, delta=True, workers=1)
    try:
        yield Bench(SIZE, plane, fleet, "delta", 1, debounce=0.05, duration=3.0, limit=30.0)
        assert "differ from a translation from scratch" not in plane.log()
    finally:
        fleet.close()
        plane.close()


def test_each_proxy_is_completed_and_each_scope_translated_once(bench: Bench) -> None:
    result = cold_connect(bench)

    assert complete(result)
    # One outbound part per namespace, and each workload's own part.
    assert result.translations == SIZE.namespaces + SIZE.proxies


def test_an_endpoint_change_sends_one_resource_made_once(bench: Bench) -> None:
    result = endpoint_change(bench)

    assert complete(result)
    assert result.resources_sent == SIZE.proxies
    assert result.bytes_sent < SIZE.proxies * 4 * KILOBYTE
    assert counted(result.translations) <= SIZE.namespaces
    assert counted(result.encodings) <= 1


def test_a_route_change_sends_one_route_configuration(bench: Bench) -> None:
    result = route_change(bench)

    assert complete(result)
    assert result.resources_sent == SIZE.proxies
    assert counted(result.translations) <= SIZE.namespaces
    assert counted(result.encodings) <= SIZE.namespaces
    assert result.bytes_sent < SIZE.proxies * 8 * KILOBYTE


def test_a_rule_of_one_namespace_reaches_its_proxies_only(bench: Bench) -> None:
    result = private_route_change(bench)

    assert complete(result)
    assert result.proxies_reached == IN_NAMESPACE
    assert result.resources_sent == IN_NAMESPACE
    assert result.bytes_sent < IN_NAMESPACE * 8 * KILOBYTE
    assert counted(result.translations) <= 1


def test_a_policy_of_one_namespace_reaches_its_proxies_only(bench: Bench) -> None:
    result = namespace_policy(bench)

    assert complete(result)
    assert result.proxies_reached == IN_NAMESPACE
    assert result.resources_sent == IN_NAMESPACE
    assert result.bytes_sent < IN_NAMESPACE * 100 * KILOBYTE
    # Each workload's own side, and the clusters towards it, once per namespace.
    assert counted(result.translations) <= IN_NAMESPACE + SIZE.namespaces


def test_a_policy_of_the_mesh_sends_each_proxy_its_own_listener(bench: Bench) -> None:
    result = mesh_policy(bench)

    assert complete(result)
    # Namespaces with a mode of their own do not notice.
    assert result.resources_sent <= SIZE.proxies


def test_a_rolling_restart_is_merged_into_few_messages(bench: Bench) -> None:
    result = rolling_restart(bench)

    assert complete(result)
    restarted = len(range(0, SIZE.services, 5))
    assert result.resources_sent <= SIZE.proxies * restarted * SIZE.endpoints


def test_stuck_proxies_delay_nobody(bench: Bench) -> None:
    assert complete(slow_readers(bench))


def test_proxies_that_come_back_are_sent_nothing(bench: Bench) -> None:
    result = reconnect(bench)

    assert complete(result)
    assert result.resources_sent == 0
    assert result.bytes_sent < SIZE.proxies * KILOBYTE


def test_churn_keeps_updates_equal_to_translations_from_scratch(bench: Bench) -> None:
    assert complete(churn(bench))


def complete(result: Result) -> bool:
    assert result.errors == ()
    return result.last_ack_ms.p99 > 0


def counted(value: float | None) -> float:
    assert value is not None
    return value
