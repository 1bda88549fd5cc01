"""From a container's security context to what the node is told."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.runtime.cache import ObjectCache
from lateen.runtime.container_spec import ContainerConfigError, container_spec
from lateen.runtime.images import ImageCommand
from lateen.runtime.node.spec import ContainerSpec
from tests.runtime.objects import Objects

Raw = dict[str, Any]


def made(pod_context: Raw, context: Raw) -> ContainerSpec:
    pod = {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"securityContext": pod_context, "enableServiceLinks": False},
    }
    container = {"name": "app", "securityContext": context}
    objects: ObjectCache = Objects()  # type: ignore[assignment]  # no objects are looked up
    return container_spec(
        pod, container, ImageCommand(("true",)), objects, {},
        ip="10.244.0.10", node_name="n", switches_user=True, log_path="",
    )  # fmt: skip


def profile(kind: str) -> Raw:
    return {"seccompProfile": {"type": kind}}


@pytest.mark.parametrize(
    ("pod_context", "context", "confined"),
    [
        ({}, {}, True),
        (profile("RuntimeDefault"), {}, True),
        (profile("Unconfined"), {}, False),
        ({}, profile("Unconfined"), False),
        (profile("Unconfined"), profile("RuntimeDefault"), True),
        ({}, {"privileged": True}, False),
        ({}, {"privileged": False}, True),
        (profile("RuntimeDefault"), {"privileged": True}, False),
    ],
)
def test_the_filter_applies_unless_the_manifest_says_otherwise(
    pod_context: Raw, context: Raw, confined: bool
) -> None:
    assert made(pod_context, context).confined is confined


def test_a_profile_that_the_node_does_not_have_is_refused() -> None:
    with pytest.raises(ContainerConfigError, match=r"seccompProfile.type Localhost is not supp"):
        made({}, {"seccompProfile": {"type": "Localhost", "localhostProfile": "mine.json"}})


def test_programs_of_the_machine_have_the_groups_of_their_pod() -> None:
    assert made({"supplementalGroups": [7], "fsGroup": 4242}, {}).groups == (7, 4242)
    assert made({}, {}).groups == ()
