"""What controllers do next, simulated."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lateen.runtime.controllers import pod_from_template
from lateen.runtime.raw import deleting, is_ready, labels_of, name_of
from lateen.runtime.workload_plan import (
    REVISION_HASH,
    TEMPLATE_HASH,
    Plan,
    plan_daemon_set,
    plan_deployment,
    plan_job,
    plan_stateful_set,
    template_hash,
)
from tests.runtime.objects import pod, workload

Raw = dict[str, Any]


def set_ready(raw: Raw, ready: bool) -> None:
    """Change a Pod's Ready condition."""
    status = "True" if ready else "False"
    raw["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}


class Cluster:
    """Pods of one workload that come up, fail and go as a test says."""

    def __init__(self, kind: str = "Deployment") -> None:
        self.kind = kind
        self.pods: dict[str, Raw] = {}
        self._numbers = itertools.count()

    def carry_out(self, plan: Plan, of: Raw) -> None:
        """Create and mark for deletion what the plan says."""
        for new in plan.create:
            raw = pod_from_template(of, self.kind, new)
            if self.kind != "StatefulSet":
                raw["metadata"]["name"] = f"p{next(self._numbers)}"
            assert name_of(raw) not in self.pods
            self.pods[name_of(raw)] = raw
        for name in plan.delete:
            self.pods[name]["metadata"]["deletionTimestamp"] = "now"

    def finish_deletions(self) -> None:
        """What was marked is gone."""
        self.pods = {name: raw for name, raw in self.pods.items() if not deleting(raw)}

    @property
    def live(self) -> list[Raw]:
        """Pods that are not ending."""
        return [raw for raw in self.pods.values() if not deleting(raw)]

    @property
    def available(self) -> int:
        """Ready pods."""
        return sum(is_ready(raw) for raw in self.pods.values())


@settings(max_examples=150, deadline=None)
@given(
    replicas=st.integers(1, 8),
    surge=st.sampled_from([0, 1, 3, "25%", "100%"]),
    unavailable=st.sampled_from([0, 1, 2, "25%", "50%"]),
    seed=st.integers(0, 10_000),
)
def test_a_rolling_update_keeps_its_bounds_and_ends(
    replicas: int, surge: int | str, unavailable: int | str, seed: int
) -> None:
    chances = random.Random(seed)
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    strategy = {"strategy": {"rollingUpdate": rolling}}
    old, new = workload(replicas, "1", **strategy), workload(replicas, "2", **strategy)
    cluster = Cluster()
    cluster.carry_out(plan_deployment(old, []), old)
    for raw in cluster.live:
        set_ready(raw, True)
    extra = _share(surge, replicas, up=True)
    missing = _share(unavailable, replicas, up=False)
    if extra == 0 and missing == 0:
        missing = 1
    for step in range(200):
        plan = plan_deployment(new, list(cluster.pods.values()))
        before = cluster.available
        cluster.carry_out(plan, new)
        assert len(cluster.live) <= replicas + extra
        # The plan takes nothing below the minimum; only failing pods may be below it.
        assert cluster.available >= min(before, replicas - missing)
        for raw in cluster.live:
            if step < 100 and chances.random() < 0.1:
                set_ready(raw, False)
            elif step >= 100 or chances.random() < 0.5:
                set_ready(raw, True)
        if chances.random() < 0.6 or step >= 100:
            cluster.finish_deletions()
    current = template_hash(new["spec"]["template"])
    assert [labels_of(raw)[TEMPLATE_HASH] for raw in cluster.pods.values()] == [current] * replicas
    assert plan_deployment(new, list(cluster.pods.values())).create == ()


def _share(value: int | str, total: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value[:-1]) * total
    return -(-percent // 100) if up else percent // 100


@given(before=st.integers(0, 6), after=st.integers(0, 6))
def test_scaling_converges(before: int, after: int) -> None:
    cluster = Cluster()
    cluster.carry_out(plan_deployment(workload(before), []), workload(before))
    for _ in range(3):
        plan = plan_deployment(workload(after), list(cluster.pods.values()))
        cluster.carry_out(plan, workload(after))
        cluster.finish_deletions()
    assert len(cluster.pods) == after


def test_scaling_down_takes_pods_that_are_not_ready_first() -> None:
    hashed = {TEMPLATE_HASH: template_hash(workload()["spec"]["template"])}
    pods = [pod("a", ready=True, labels=hashed), pod("b", labels=hashed)]
    assert plan_deployment(workload(1), pods).delete == ("b",)


def test_recreate_waits_until_the_old_ones_are_gone() -> None:
    strategy = {"strategy": {"type": "Recreate"}}
    old, new = workload(2, "1", **strategy), workload(2, "2", **strategy)
    cluster = Cluster()
    cluster.carry_out(plan_deployment(old, []), old)
    plan = plan_deployment(new, list(cluster.pods.values()))
    assert (plan.create, len(plan.delete)) == ((), 2)
    cluster.carry_out(plan, new)
    assert plan_deployment(new, list(cluster.pods.values())).create == ()
    cluster.finish_deletions()
    assert len(plan_deployment(new, []).create) == 2


def test_a_daemon_set_is_one_pod() -> None:
    plan = plan_daemon_set(workload(5), [])
    assert len(plan.create) == 1
    assert plan.status["desiredNumberScheduled"] == 1
    assert plan.status["currentNumberScheduled"] == plan.status["updatedNumberScheduled"] == 0


def stateful(cluster: Cluster, of: Raw) -> Plan:
    """One step of a StatefulSet."""
    plan = plan_stateful_set(of, list(cluster.pods.values()))
    cluster.carry_out(plan, of)
    return plan


def test_a_stateful_set_starts_in_order() -> None:
    cluster, of = Cluster("StatefulSet"), workload(3)
    for count in (1, 2, 3):
        stateful(cluster, of)
        assert sorted(cluster.pods) == [f"w-{i}" for i in range(count)]
        assert stateful(cluster, of).create == (), "the one before is not ready yet"
        set_ready(cluster.pods[f"w-{count - 1}"], True)


def test_a_parallel_stateful_set_starts_at_once() -> None:
    plan = plan_stateful_set(workload(3, podManagementPolicy="Parallel"), [])
    assert [new.index for new in plan.create] == [0, 1, 2]


def test_a_stateful_set_is_updated_from_the_end_one_by_one() -> None:
    cluster = Cluster("StatefulSet")
    old, new = workload(3, "1"), workload(3, "2")
    for _ in range(3):
        stateful(cluster, old)
        for raw in cluster.live:
            set_ready(raw, True)
    order: list[str] = []
    for _ in range(20):
        plan = stateful(cluster, new)
        order += plan.delete
        assert len(plan.delete) <= 1
        cluster.finish_deletions()
        stateful(cluster, new)
        for raw in cluster.live:
            set_ready(raw, True)
    assert order == ["w-2", "w-1", "w-0"]
    current = template_hash(new["spec"]["template"])
    assert all(labels_of(raw)[REVISION_HASH] == current for raw in cluster.pods.values())


def test_a_good_template_replaces_a_bad_one_that_never_became_ready() -> None:
    cluster = Cluster("StatefulSet")
    stateful(cluster, workload(3, "bad"))
    assert stateful(cluster, workload(3, "good")).delete == ("w-0",)
    cluster.finish_deletions()
    stateful(cluster, workload(3, "good"))
    assert sorted(cluster.pods) == ["w-0"]


def test_a_stateful_set_shrinks_from_the_end_one_by_one() -> None:
    cluster = Cluster("StatefulSet")
    for _ in range(3):
        stateful(cluster, workload(3))
        for raw in cluster.live:
            set_ready(raw, True)
    assert stateful(cluster, workload(1)).delete == ("w-2",)
    assert stateful(cluster, workload(1)).delete == ()
    cluster.finish_deletions()
    assert stateful(cluster, workload(1)).delete == ("w-1",)


def test_a_partition_keeps_the_first_ones_as_they_are() -> None:
    cluster = Cluster("StatefulSet")
    for _ in range(2):
        stateful(cluster, workload(2, "1"))
        for raw in cluster.live:
            set_ready(raw, True)
    of = workload(2, "2", updateStrategy={"rollingUpdate": {"partition": 2}})
    assert stateful(cluster, of).delete == ()


def test_a_finished_pod_of_a_stateful_set_is_made_again() -> None:
    of = workload(1)
    assert plan_stateful_set(of, [pod("w-0", phase="Failed")]).delete == ("w-0",)


@pytest.mark.parametrize(
    ("spec", "phases", "create", "condition"),
    [
        ({}, [], 1, None),
        ({"completions": 3, "parallelism": 2}, [], 2, None),
        ({"completions": 3, "parallelism": 2}, ["Succeeded", "Succeeded"], 1, None),
        ({}, ["Running"], 0, None),
        ({}, ["Succeeded"], 0, "Complete"),
        ({"backoffLimit": 2}, ["Failed", "Failed"], 1, None),
        ({"backoffLimit": 2}, ["Failed"] * 3, 0, "Failed"),
        ({"backoffLimit": 0}, ["Failed"], 0, "Failed"),
        ({"suspend": True}, [], 0, None),
    ],
)
def test_jobs(spec: Raw, phases: list[str], create: int, condition: str | None) -> None:
    pods = [pod(f"p{i}", phase=phase) for i, phase in enumerate(phases)]
    plan = plan_job(workload(**spec), pods)
    assert len(plan.create) == create
    found = [entry["type"] for entry in plan.status.get("conditions", [])]
    assert found == ([condition] if condition else [])


def test_a_job_that_is_over_does_not_run_again_when_its_pods_go() -> None:
    of = workload()
    of["status"] = plan_job(of, [pod(phase="Succeeded")]).status
    plan = plan_job(of, [])
    assert (plan.create, plan.status) == ((), of["status"])


def test_restarts_of_a_job_count_as_failures() -> None:
    raw = pod("p")
    raw["status"]["containerStatuses"] = [{"name": "app", "restartCount": 7}]
    plan = plan_job(workload(), [raw])
    assert plan.status["conditions"][0]["type"] == "Failed"
    assert plan.delete == ("p",)


def test_claims_of_a_stateful_set_are_volumes_of_its_pods() -> None:
    of = workload(volumeClaimTemplates=[{"metadata": {"name": "data"}}])
    made = pod_from_template(of, "StatefulSet", plan_stateful_set(of, []).create[0])
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data-w-0"}}
    assert made["spec"]["volumes"] == [claim]
