"""Resources are made once, are the same each time, and lead back to their authors."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

from msgspec.structs import replace

from lateen.api.resource import Provenance
from lateen.envoy import build, decode, metadata
from lateen.ir.cluster import Cluster, ClusterType
from lateen.ir.listener import Listener
from lateen.ir.proxy_config import ProxyConfiguration
from lateen.model import discovery
from tests.envoy.cases import CASES, KEY, ORIGIN

CLUSTER = CASES["cluster-eds-auto-mtls"]


def test_the_same_object_gives_the_same_resource() -> None:
    assert build.resource(CLUSTER) is build.resource(CLUSTER)


def test_equal_objects_give_equal_bytes() -> None:
    one = build.resource(CLUSTER)
    two = build.resource(replace(CLUSTER))
    assert (one.body, one.version) == (two.body, two.version)
    assert len(one.version) == 16


def test_listeners_share_the_bytes_of_the_filter_chains_that_they_have_in_common() -> None:
    one = CASES["listener-virtual-inbound"]
    assert isinstance(one, Listener)
    other = replace(one, filter_chains=(*one.filter_chains[1:], one.filter_chains[0]))
    made, again = build.resource(one), build.resource(other)
    assert made.version != again.version
    big = {id(piece) for piece in made.pieces if len(piece) > 1000}
    assert big
    assert big <= {id(piece) for piece in again.pieces}


def test_another_process_makes_the_same_bytes() -> None:
    # Maps of protobuf messages have another order in every process.
    program = (
        "from lateen.envoy import build; from tests.envoy.cases import CASES; "
        "print(*(build.resource(case).version for case in CASES.values()))"
    )
    expected = [build.resource(case).version for case in CASES.values()]
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": f"src{os.pathsep}."},
        )
        assert done.stdout.split() == expected


def test_a_resource_goes_with_its_object() -> None:
    before = build.memoised()
    cluster = Cluster("short-lived", ClusterType.EDS)
    build.resource(cluster)
    assert build.memoised() == before + 1
    del cluster
    gc.collect()
    assert build.memoised() == before


def test_another_line_in_the_file_changes_no_bytes() -> None:
    assert isinstance(CLUSTER, Cluster)
    moved = replace(ORIGIN, provenance=Provenance("mesh.yaml", 0, 99))
    assert build.resource(replace(CLUSTER, origins=(moved,))).body == build.resource(CLUSTER).body


def test_a_resource_names_its_authors() -> None:
    resource = build.resource(CLUSTER)
    assert resource.origins == (KEY,)
    filters = decode.to_dict(resource)["metadata"]["filter_metadata"]
    (origin,) = filters["lateen"]["origins"]
    assert origin == "networking.istio.io/VirtualService/default/reviews spec.http[0]"
    assert metadata.parse_object(origin) == KEY
    assert filters["istio"]["config"] == (
        "/apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews"
    )


def test_resources_are_grouped_by_type() -> None:
    assert isinstance(CLUSTER, Cluster)
    made = build.resources(ProxyConfiguration(clusters=(CLUSTER,)))
    assert list(made[discovery.CLUSTER]) == [CLUSTER.name]
    assert set(made) == {*discovery.TYPES_IN_PUSH_ORDER} - {discovery.SECRET}


def test_percentages_are_kept_to_the_millionth() -> None:
    text = decode.to_yaml([build.resource(CASES["routes-fault-and-cors"])])
    assert "numerator: 1\n" in text
    assert "numerator: 333333\n" in text
