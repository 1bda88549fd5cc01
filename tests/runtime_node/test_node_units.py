"""The pure parts of the node: differences of service tables, paths, messages, forwarding."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lateen.runtime.node import process, rootfs, wire
from lateen.runtime.node.forwarder import Forwarder
from lateen.runtime.node.gateway import owner_of_port
from lateen.runtime.node.roles import ROLES
from lateen.runtime.node.services import ServicePort, service_changes, service_table


def test_only_what_differs_between_two_service_tables_is_written() -> None:
    kept = ServicePort("10.96.0.1", 80, endpoints=(("10.244.0.2", 8080),))
    old = service_table([kept, ServicePort("10.96.0.2", 80, endpoints=(("10.244.0.3", 80),))])
    moved = ServicePort("10.96.0.2", 80, endpoints=(("10.244.0.4", 80), ("10.244.0.2", 80)))
    changes = service_changes(old, service_table([kept, moved]))
    assert changes.removed == (old["10.96.0.2-tcp-80"],)
    assert changes.added == (moved,)
    assert changes.backends_removed == ("10.244.0.3",)
    assert changes.backends_added == ("10.244.0.4",)
    assert changes.addresses_added == changes.addresses_removed == ()
    assert not service_changes(old, dict(old))


def test_of_two_services_with_one_address_and_port_the_first_wins() -> None:
    first = ServicePort("10.96.0.1", 80, endpoints=(("10.244.0.2", 80),))
    assert service_table([first, ServicePort("10.96.0.1", 80)])[first.key] is first
    assert len(service_table([first, ServicePort("10.96.0.1", 80, "udp")])) == 2


def test_mounts_right_below_the_root() -> None:
    line = "36 35 98:0 / {} rw,noatime - ext3 /dev/root rw"
    text = "\n".join(line.format(p) for p in ("/", "/home", "/home/me/x", "/a\\040b", "/homes"))
    assert rootfs.top_level_mounts(text) == ["/a b", "/home", "/homes"]


def test_directories_closed_to_others_are_replaced(tmp_path: os.PathLike[str]) -> None:
    base = os.path.realpath(tmp_path)
    closed = f"{base}/closed"
    os.makedirs(f"{closed}/python/bin")
    os.makedirs(f"{base}/open")
    os.chmod(closed, 0o700)
    assert (closed, (f"{closed}/python",)) in [
        (where, paths)
        for where, paths in rootfs.closed_directories([f"{closed}/python", "/usr/bin"])
    ] or rootfs.closed_directories([f"{closed}/python"])[0][0] in map(str, _parents(closed))
    assert rootfs.closed_directories(["/usr/bin", "/no/such/path"]) == ()


def _parents(path: str) -> list[str]:
    found = []
    while path != "/":
        path = os.path.dirname(path)
        found.append(path)
    return found


def test_only_directories_that_must_change_are_opened(tmp_path: os.PathLike[str]) -> None:
    base = os.path.realpath(tmp_path)
    os.makedirs(f"{base}/there")
    os.symlink("there", f"{base}/link")
    assert f"{base}/there" not in rootfs.directories_to_open([f"{base}/there"], [])
    assert f"{base}/there" in rootfs.directories_to_open([f"{base}/there/new/deep"], [])
    assert f"{base}/there" in rootfs.directories_to_open([f"{base}/link/new"], [])
    # A generated file takes the place of a link, so the directory around it must be opened.
    assert base in rootfs.directories_to_open([f"{base}/link"], [])
    assert "/mnt" in rootfs.directories_to_open([], ["/mnt/disk"])


def test_messages_carry_descriptors_and_any_size() -> None:
    ours, theirs = wire.pair()
    reader, writer = os.pipe()
    text = "x" * 200_000
    wire.send(ours, {"id": 1, "text": text}, [writer])
    os.close(writer)
    message, fds = wire.receive(theirs)
    assert message == {"id": 1, "text": text}
    os.write(fds[0], b"through")
    os.close(fds[0])
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    ours.close()
    with pytest.raises(wire.ChannelClosed):
        wire.receive(theirs)
    theirs.close()


def test_the_owner_of_a_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"(pid {os.getpid()})" in owner_of_port(server.getsockname()[1])
    assert owner_of_port(1) == ""


def test_the_forwarder_moves_every_byte_both_ways_and_passes_half_closes_on() -> None:
    ours, theirs = wire.pair()
    gateway, gateway_end = wire.pair()
    thread = threading.Thread(target=Forwarder(theirs, gateway_end).run)
    thread.start()
    backend = socket.create_server(("127.0.0.1", 0))
    listener = socket.create_server(("127.0.0.1", 0))
    front = listener.getsockname()
    port = backend.getsockname()[1]
    request = {"id": 1, "op": "publish", "key": "k", "address": "127.0.0.1", "port": port}
    wire.send(ours, request, [listener.fileno()])
    listener.close()
    wire.receive(ours)
    payload = os.urandom(3_000_000)

    def reverse() -> None:
        connection, _ = backend.accept()
        with connection:
            received = connection.makefile("rb").read()  # until the client's half close
            connection.sendall(received[::-1])

    worker = threading.Thread(target=reverse)
    worker.start()
    with socket.create_connection(front, 10) as client:
        client.sendall(payload)
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == payload[::-1]
    worker.join()
    backend.close()
    # Nobody listens any more: the client learns it by a reset, not by an empty answer.
    with pytest.raises(ConnectionResetError), socket.create_connection(front, 10) as client:
        client.recv(1)
    ours.close()
    thread.join(5)
    assert not thread.is_alive()
    gateway.close()


def test_programs_below_the_containers_own_tmp_are_shown_all_the_same(tmp_path: Path) -> None:
    checkout = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        inner = checkout / "venv" / "lib"
        inner.mkdir(parents=True)
        paths = [str(checkout), str(inner), "/usr/bin", f"{checkout}/gone"]
        assert rootfs.covered_directories(paths) == (os.path.realpath(checkout),)
    finally:
        shutil.rmtree(checkout)


def test_a_client_that_breaks_off_does_not_end_the_forwarder() -> None:
    """Bytes for a socket whose other side has reset it: splice(2) brings SIGPIPE then."""
    ours, theirs = wire.pair()
    gateway, gateway_end = wire.pair()
    upstream = socket.create_server(("127.0.0.1", 0))
    listener = socket.create_server(("127.0.0.1", 0))
    upstream.settimeout(5)
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            process.reset_signals()  # as the launcher does for what it forks
            ROLES["forwarder"](theirs, [gateway_end.detach()])
        finally:
            os._exit(0)
    try:
        place = {"address": "127.0.0.1", "port": upstream.getsockname()[1]}
        request = {"id": 1, "op": "publish", "key": "web", **place}
        wire.send(ours, request, (listener.fileno(),))
        wire.receive(ours)
        for _ in range(3):
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"request")
                client.shutdown(socket.SHUT_WR)
            server, _ = upstream.accept()
            with server, contextlib.suppress(OSError):
                for _ in range(5):  # the first brings the reset
                    server.sendall(b"answer")
                    time.sleep(0.02)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        for sock in (ours, theirs, gateway, gateway_end, upstream, listener):
            sock.close()
