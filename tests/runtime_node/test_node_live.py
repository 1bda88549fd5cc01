"""Pods on a real kernel, as root and as an ordinary user."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.runtime_node.host import Account

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def test_pods_reach_each_other_their_services_and_the_outside(account: Account) -> None:
    network = account.run("network")
    assert network["pod to pod"] == ["a 10.244.0.12"]  # the source address is the pod's own
    assert {line.split()[0] for line in network["cluster ip"]} == {"a", "b"}
    assert all(line.endswith(" 10.244.0.12") for line in network["cluster ip"])
    assert len(set(network["affinity"])) == 1
    assert network["other port"] == ["a 10.244.0.12"]
    assert network["node port"][0].split()[0] in ("a", "b")
    assert network["itself"] == ["a 10.244.0.1"]
    assert network["from the node"] == "a 10.244.0.1\n"
    assert network["outside"] == ["outside"]
    assert network["through published port"] == "b 10.244.0.1\n"
    # A connection that cannot be made is refused at once; it never hangs.
    for name in ("no endpoint", "no such port", "no such service", "after removal"):
        assert network[name] == ["ConnectionRefusedError"], name
    assert network["outside, closed port"] == ["ConnectionResetError"]
    assert set(network["after change"]) == {"b 10.244.0.12"}
    # The long-lived main process stays small.
    assert network["heavy modules"] == []
    # The machine itself has seen nothing of all this, and nothing of it is left.
    assert network["links"] == ["lo"]
    assert network["status"] == 0
    assert network["log"] == ""


def test_capture_sends_traffic_through_the_proxy_with_its_original_destination(
    account: Account,
) -> None:
    seen = account.run("capture")
    assert seen["out to a pod"] == "outbound 10.244.0.11:80"
    assert seen["out to a service"] == "outbound 10.96.0.20:80"
    assert seen["out to nowhere"] == "outbound 203.0.113.7:443"
    assert seen["in"] == "inbound 10.244.0.10:8080"
    # Not captured: excluded ranges and ports, loopback, a direct call to oneself, the proxy itself.
    assert seen["excluded range"] == "c 10.244.0.10"
    assert seen["in on the status port"] == "a 10.244.0.11"
    assert seen["loopback"] == "a 127.0.0.1"
    assert seen["itself"] == "a 10.244.0.10"
    assert seen["marked"] == "b 10.244.0.10"
    # The proxy's connection to its own pod enters like any inbound one.
    assert seen["marked to itself"] == "inbound 10.244.0.10:8080"
    # An application cannot pass for the proxy.
    assert seen["application marks"] == "PermissionError"
    assert seen["after NONE"] == "b 10.244.0.10"


@pytest.mark.envoy
def test_envoy_carries_captured_traffic_with_one_capability(account: Account) -> None:
    facts = account.run("envoy")
    assert facts["through envoy"] == "b 10.244.0.10\n"
    uid = "1337" if account.uid == 0 else str(account.uid)
    cap_net_raw = f"{1 << 13:016x}"  # enough for SO_MARK since Linux 5.17
    assert facts["identity"] == [uid, cap_net_raw, cap_net_raw]
    assert facts["stopped"] == 0
    # Without its proxy an application reaches nothing; it never goes around it.
    assert facts["proxy down"] == "ConnectionRefusedError\n"


def test_where_namespaces_are_forbidden_the_error_says_what_to_do(account: Account) -> None:
    facts = account.run("unsupported")
    assert facts["problems"] == []
    if account.uid != 0:
        kind, message, hint = facts["error"]
        assert kind == "NodeUnsupportedError"
        assert "may not make namespaces on this machine (ENOSPC)" in message
        assert hint == "sudo sysctl -w user.max_user_namespaces=15000; or run as root"


def test_a_container_sees_its_own_machine_and_nothing_of_the_mesh(account: Account) -> None:
    facts = account.run("containers")
    inside = facts["inspect"]
    assert inside["uid"] == (65534 if account.uid == 0 else account.uid)
    assert inside["groups"] == []
    assert set(inside["capabilities"]) == {"0000000000000000"}
    assert inside["no new privileges"] == "1"
    assert inside["pid"] == 1
    assert inside["processes"] == ["1"]
    assert inside["interfaces"] == ["eth0", "lo"]
    assert (inside["hostname"], inside["hostname file"]) == ("web", "web")
    assert inside["cwd"] == "/not/there/yet"
    assert inside["colour"] == "green"
    assert inside["state directory"] in ("FileNotFoundError", [])
    # Where the checkout itself lies below /tmp, its programs must be seen there.
    checkout = Path(__file__).resolve().parts[2]
    assert set(inside["tmp"]) - {checkout} == {"x"}
    assert inside["bind 80"] == "bound"
    assert inside["write volume"] == "written"
    assert facts["volume"] == "inside"
    assert inside["read secret"] == "hush"
    assert inside["write secret"] == "OSError"  # EROFS
    assert inside["write sysctl"] == "OSError"
    assert facts["written to the machine"] is False
    assert facts["own process"] == [0, "['0000000000000000', '0000000000000000', '1']"]


@pytest.mark.parametrize("target", ["tmp", "checkout"])
def test_a_volume_over_their_folder_does_not_hide_the_programs(
    account: Account, target: str
) -> None:
    facts = account.run("covering")
    found = facts[target]
    assert found["script"] == "hello from below /tmp\n"
    assert found["package"].startswith("Lateen at ")
    # The volume is the volume all the same, and nothing of it is in the machine's folder.
    assert found["written"]
    assert facts["left in the checkout"] == []
    # Where nothing can be added, programs of the machine run as ever.
    assert found["read-only"] == 0


@pytest.mark.skipif(shutil.which("ldd") is None, reason="no ldd to make an image with")
def test_an_image_s_files_are_a_container_s_root(account: Account) -> None:
    facts = account.run("image")
    for tree in ("good", "hostile"):
        lines = facts[tree].split("\n")
        assert {"bin", "dev", "etc", "proc", "sys", "tmp"} <= set(lines)
        assert not {"home", "work", "var", "opt", "boot"} & set(lines)
        assert "bash" in lines  # process 1 of its own /proc
        assert "null" in lines
        assert "net" in lines  # /sys
    assert "new" in facts["spoil"].split()
    assert facts["frozen"].endswith("refused\n")
    assert (facts["exec status"], facts["exec"]) == (0, ["bash", "cat", "chmod", "ls"])


def test_an_image_changes_nothing_of_the_machine(account: Account) -> None:
    """Links in the place of /proc, /dev and /tmp; a root that changes modes of devices."""
    facts = account.run("image")
    assert facts["victim"] == []
    assert facts["null"]
    assert facts["spoil"].split("\n")[:1] != ["open"]
    assert "refused" in facts["spoil"]
    assert "open" in facts["spoil"].split("\n")
    # What its containers wrote went to memory.
    assert "new" not in facts["trees"]["good"]
    assert "proc" not in facts["trees"]["good"]
    # One that cannot take the generated files says so and does not start.
    assert "mount path /etc/resolv.conf" in facts["no etc"]


def test_an_image_s_root_has_what_it_was_given_and_no_more(account: Account) -> None:
    fields = dict(
        line.split(":\t") for line in account.run("image")["process"].splitlines() if ":\t" in line
    )
    wanted = f"{0b11 if account.uid == 0 else 0:016x}"
    found = [fields[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd")]
    assert found == [wanted] * 3
    assert fields["CapAmb"] == f"{0:016x}"
    assert fields["NoNewPrivs"] == "1"


def test_a_read_only_root_leaves_only_the_volumes_writable(account: Account) -> None:
    written = account.run("containers")["read-only root"]
    allowed = {path for path, result in written.items() if result == "written"}
    assert allowed == {"/dev/shm/x", "/no/such/place/data/x"}


def test_a_process_of_the_mesh_may_have_a_user_of_its_own(account: Account) -> None:
    # Also when Python and the state directory lie below a directory closed to other users.
    facts = account.run("containers")
    if account.uid == 0:
        assert facts["other user"] == [0, "", True]
    else:
        assert "other user" not in facts


def test_logs_are_bounded_and_a_full_disk_never_hurts_the_application(account: Account) -> None:
    facts = account.run("containers")
    assert facts["noisy status"] == 0
    assert all(0 < size <= 2000 for size in facts["log sizes"])
    assert facts["full disk status"] == 0
    assert facts["full disk problem"] == "No space left on device"


def test_what_cannot_be_started_says_why(account: Account) -> None:
    facts = account.run("containers")
    where = "default/web: container broken"
    assert facts["errors"] == [
        f"CommandNotFoundError: {where}: /no/such/program: no such program",
        f"CommandNotFoundError: {where}: no-such-program: no such program",
        f"CommandNotFoundError: {where}: /etc/passwd: may not be run by this user",
        f"SandboxError: {where}: volume source /no/such/volume: No such file or directory",
    ]


def test_containers_end_as_their_authors_expect(account: Account) -> None:
    facts = account.run("lifecycle")
    assert facts["default action"] == [143, True]
    assert facts["shell with a child"][1]
    assert facts["handles it"] == [3, True]
    assert facts["ignores it"] == [137, True]
    assert facts["exit code"] == 7
    assert facts["left behind"] == 0
    assert facts["killed with the pod"] == 137
    assert facts["after the pod"] == 0
    assert facts["same name again"] == "web"
    assert facts["many"] == [f"pod{index} 4" for index in range(10)]
    assert facts["more open files"] == 0


def test_exec_runs_inside_the_container(account: Account) -> None:
    facts = account.run("execute")
    assert facts["exec status"] == 5
    lines = facts["output"].splitlines()
    assert lines[0] == "hello green more /tmp web"
    assert int(lines[1]) <= 5  # only processes of the container
    assert facts["terminal"] == "33 101\r\nterminal\r\n^C"
    assert facts["terminal status"] == 9
    assert facts["signalled"] == 143
    assert facts["not found"] == "exec in main: no-such-program: no such program"
    assert facts["not running"] == "exec in main: the container is not running"


@pytest.mark.parametrize("victim", ["lateen-host", "lateen-node", "lateen-main"])
def test_nothing_is_left_whoever_is_killed(account: Account, victim: str) -> None:
    facts = account.run("crashes")
    assert "sleep" in facts[victim]["before"]
    assert facts[victim]["left"] == []
    assert facts[victim]["links"] == ["lo"]
    assert facts[victim]["mounted"] is False


def test_the_node_ends_with_the_process_that_launched_it(account: Account) -> None:
    assert account.run("parent_dies") == {"left": False, "links": ["lo"]}


def test_a_detached_node_is_found_and_ended_by_its_identity(account: Account) -> None:
    facts = account.run("detached")
    assert facts == {"alive": True, "stale": False, "gone": True, "links": ["lo"]}


def test_the_launcher_is_told_what_went_wrong(account: Account) -> None:
    facts = account.run("failures")
    assert facts["raises_node_error"] == ["NodeStartError", "the moon is full", "wait a night"]
    assert facts["raises_bug"][1] == "the node cannot start: RuntimeError: oops"
    assert facts["returns_at_once"][1] == "the node ended with status 0"
    message, hint, pid, port = facts["taken"]
    assert message.startswith(f"port {port} of 127.0.0.1 is taken by python")
    assert message.endswith(f"(pid {pid})")
    assert hint == "publish another port, or end that program"
