"""Real workload processes on loopback, for the tests of this folder."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Process:
    """A running workload and the ports it says it listens on."""

    process: subprocess.Popen[str]
    ports: list[int]

    @property
    def port(self) -> int:
        return self.ports[0]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, request: str) -> bytes:
        """Send bytes, give back all that comes until the server closes."""
        with self.connect() as client:
            client.sendall(request.encode("latin-1"))
            return read_all(client)

    def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of one request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close", *headers]
        head, _, body = self.ask("\r\n".join([*lines, "", ""])).partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body.decode()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


def read_all(client: socket.socket) -> bytes:
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def read_answer(client: socket.socket) -> bytes:
    """One answer with a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(65536)
        assert data, received
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def workload(
    name: str, *arguments: str, env: Mapping[str, str] | None = None, ports: int = 1
) -> Iterator[Process]:
    """``python -m lateen.workloads.NAME`` on free ports, ended afterwards."""
    environment = {"PATH": os.environ["PATH"], "PORT": "0", "PYTHONPATH": "src", **(env or {})}
    command = [sys.executable, "-m", f"lateen.workloads.{name}", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        listening = [process.stdout.readline() for _ in range(ports)]
        yield Process(process, [int(line.split()[-1]) for line in listening])
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def curl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the built-in curl."""
    command = [sys.executable, "-m", "lateen.workloads.curl", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)
