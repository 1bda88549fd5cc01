"""What `lateen up` takes for a pod that is ready."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lateen.cli.bring_up import just_restarted

BEGUN = "2026-01-01T00:00:00Z"


def pod(*, failed_with: int | None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "state": {"running": {"startedAt": BEGUN}}}
    if failed_with is not None:
        container["lastState"] = {"terminated": {"exitCode": failed_with}}
    return {"status": {"containerStatuses": [container]}}


def after(seconds: float) -> float:
    return datetime(2026, 1, 1, tzinfo=UTC).timestamp() + seconds


def test_a_container_that_failed_must_run_for_a_while() -> None:
    assert just_restarted(pod(failed_with=4), after(0.2))
    assert not just_restarted(pod(failed_with=4), after(3.5))


def test_one_that_never_failed_is_believed_at_once() -> None:
    assert not just_restarted(pod(failed_with=None), after(0.2))
    assert not just_restarted(pod(failed_with=0), after(0.2))
    assert not just_restarted({}, after(0.0))
