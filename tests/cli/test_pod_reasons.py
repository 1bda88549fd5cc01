"""Why a pod is not ready, as `ps`, `up` and `restart` say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lateen.cli.pod_reasons import fails_for_good, reasons


def pod(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "web-1"},
        "status": {"containerStatuses": list(containers), **status},
    }


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "main", "ready": False, "state": state, **more}


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff", "message": "exited with 3; starts again in 2 s"}}


def test_a_container_that_crashes_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "web-1"
    folder.mkdir(parents=True)
    (folder / "main.log").write_bytes(b"begin\ncannot open database \xff" + 300 * b"x" + b"\n\n")
    (said,) = reasons(pod(container(CRASH)), tmp_path)
    assert said.startswith(
        "container main: CrashLoopBackOff: exited with 3; starts again in 2 s; its last words: "
        "cannot open database"
    )
    assert len(said) < 330
    assert reasons(pod(container(CRASH)), tmp_path / "none") == [said.partition("; its last")[0]]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            pod(
                container(RUNNING),
                conditions=[
                    {
                        "type": "ContainersReady",
                        "status": "False",
                        "message": "main: readiness probe failed: HTTP 503",
                    }
                ],
            ),
            "container main: is not ready: readiness probe failed: HTTP 503",
        ),
        (
            pod(container({"waiting": {"reason": "RunContainerError", "message": "no"}})),
            "container main: RunContainerError: no",
        ),
        (
            pod(container({"terminated": {"exitCode": 9, "message": "Liveness probe failed: x"}})),
            "container main: exited with 9 (Liveness probe failed: x)",
        ),
        (
            pod(reason="ErrImagePull", message="no such image\npull it"),
            "ErrImagePull: no such image\npull it",
        ),
        (
            pod(initContainerStatuses=[container(RUNNING)]),
            "init container main: is running; the other containers wait for it",
        ),
        (
            pod(initContainerStatuses=[container(CRASH)]),
            "init container main: CrashLoopBackOff: exited with 3; starts again in 2 s",
        ),
    ],
)
def test_what_is_said(raw: dict[str, Any], said: str) -> None:
    assert reasons(raw) == [said]


def test_a_pod_that_is_ready_or_leaves_has_no_reason() -> None:
    ready = pod(container(CRASH), conditions=[{"type": "Ready", "status": "True"}])
    leaving = pod(container(CRASH))
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert reasons(ready) == reasons(leaving) == []


def test_which_pods_will_not_get_ready() -> None:
    again = pod(container(CRASH, restartCount=3))
    assert fails_for_good([again]) == [again]
    assert fails_for_good([pod(container(CRASH, restartCount=1)), pod(container(RUNNING))]) == []
    image = pod(reason="InvalidImageName", message="no")
    assert fails_for_good([image]) == [image]
