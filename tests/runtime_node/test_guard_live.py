"""What containers may ask of the kernel, and what the machine's users see of them."""

from __future__ import annotations

import pytest

from lateen.runtime.node.pod_users import POD_USER
from tests.runtime_node.host import Account

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

REFUSED = (
    *("keyctl", "add_key", "request_key", "bpf", "mount", "unshare user", "clone user", "attach"),
    *("seize", "vsock", "read other", "kexec", "module", "personality", "perf", "io_uring"),
    *("unshare files", "open_by_handle_at"),
)


def test_a_container_is_refused_the_calls_that_engines_refuse(account: Account) -> None:
    found = account.run("guard")["calls"]
    assert found["mode"] == ["2"]
    calls = found["calls"]
    assert {name: calls[name] for name in REFUSED} == dict.fromkeys(REFUSED, "EPERM")
    # What a program can do without, or ask of its own children, is told so or works.
    assert (calls["clone3"], calls["unknown"]) == ("ENOSYS", "ENOSYS")
    assert calls["peek"] == "ESRCH"
    assert calls["ask personality"] == 0


def test_a_container_without_the_filter_has_none(account: Account) -> None:
    found = account.run("guard")["unconfined"]
    assert found["mode"] == ["0"]
    assert found["calls"]["unshare files"] == 0
    assert found["calls"]["attach"] == 0


def test_keyrings_are_not_shared(account: Account) -> None:
    first, second, other = account.run("guard")["keys"]
    assert first["found"] == dict.fromkeys(first["found"], "ENOKEY")
    assert first["added"] == [True, True]
    assert second["found"]["of-a-container"] == "ENOKEY"
    if account.uid == 0:
        assert other["found"]["of-a-pod"] == "ENOKEY"


def test_exec_is_confined_as_its_container_is(account: Account) -> None:
    status, (uid, _, mode, size) = account.run("guard")["exec"]
    assert (status, mode) == (0, "2")
    assert uid == str(65534 if account.uid == 0 else account.uid)
    assert int(size) > 0


def test_the_machine_s_user_of_the_same_number_reaches_no_application(account: Account) -> None:
    if account.uid != 0:
        pytest.skip("without root applications are the user's own processes")
    facts = account.run("guard")
    assert facts["marked"] == 1
    assert facts["seen by 65534"] == ["PermissionError"] * 3
    assert facts["as"] == [POD_USER]


def test_groups_open_volumes(account: Account) -> None:
    facts = account.run("guard")
    if account.uid == 0:
        assert facts["calls"]["groups"] == [4242]
        assert facts["written as"] == [POD_USER, 4242]
    else:
        assert facts["written as"] == [account.uid, account.gid]


def test_common_runtimes_run_under_the_filter(account: Account) -> None:
    programs = account.run("guard")["programs"]
    assert programs == dict.fromkeys(programs, 0)
