"""Each long-running part of the node is killed in turn; what is lost is counted."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.mesh import SAMPLES, Mesh, descendants, eventually, running

pytestmark = [pytest.mark.live, pytest.mark.timeout(150)]


def process_named(mesh: Mesh, name: str) -> int:
    """The newest process of the node with this name; 0 when there is none."""
    found = [pid for pid in descendants(mesh.node_pid) if comm(pid) == name]
    return max(found, default=0)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@contextmanager
def requests(mesh: Mesh, rate: int = 100) -> Iterator[Counter[str]]:
    """New connections for the page through the gateway while the block runs, by outcome."""
    outcomes: Counter[str] = Counter()
    ended = threading.Event()
    url = f"http://127.0.0.1:{mesh.http_port}/productpage"

    def one() -> None:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                outcomes[str(answer.status)] += 1
        except OSError as error:
            outcomes[type(error).__name__] += 1

    def all_of_them() -> None:
        threads = []
        while not ended.is_set():
            threads.append(threading.Thread(target=one))
            threads[-1].start()
            time.sleep(1 / rate)
        for thread in threads:
            thread.join()

    sender = threading.Thread(target=all_of_them)
    sender.start()
    try:
        yield outcomes
    finally:
        ended.set()
        sender.join()


@pytest.mark.parametrize("name", ["lateen-forward", "lateen-engine", "control plane"])
def test_a_part_that_is_killed_comes_back(bookinfo: Mesh, name: str) -> None:
    """Connections that the forwarder carries are cut; nothing else is lost, of no part."""

    def find() -> int:
        if name == "control plane":
            return bookinfo.process_with("lateen.serve.main")
        return process_named(bookinfo, name)

    before = find()
    if not before:
        pytest.skip("this machine has no container engine")
    with requests(bookinfo) as outcomes:
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        eventually(lambda: find() not in (0, before), timeout=20)
        took = time.monotonic() - killed
        time.sleep(1)
    lost = sum(outcomes.values()) - outcomes["200"]
    assert outcomes["200"] > 100
    assert lost <= (10 if name == "lateen-forward" else 0), outcomes
    assert took < 5
    eventually(lambda: bookinfo.run("status", status=None).status == 0)
    check = bookinfo.run("check", status=None).out
    part = {"lateen-forward": "forwarder", "lateen-engine": "container engine helper"}
    assert f"the {part.get(name, name)} ended and was started again" in check


def test_commands_say_that_a_mesh_has_ended() -> None:
    with running("-f", str(SAMPLES / "helloworld"), name="ended") as mesh:
        os.kill(mesh.node_pid, signal.SIGKILL)
        eventually(lambda: mesh.run("check", status=None).out.count("has ended") == 1)
        for words in (("ps",), ("status",), ("exec", "deploy/helloworld-v1", "--", "true")):
            result = mesh.run(*words, status=3)
            assert "has ended" in result.text, result
            assert "does not answer" not in result.text
