"""What peers can have written to logs is bounded, whatever they do and how often."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lateen
from lateen.observe.log import BURST, PER_SECOND, WIDTH, Bounded
from lateen.pki.keys import new_key_and_request
from tests.serve.live import XDS_PORT, live_mesh


class Bench:
    """A logger whose lines are kept, with a clock of the test's."""

    def __init__(self) -> None:
        self.now = 100.0
        self._written = io.StringIO()
        handler = logging.StreamHandler(self._written)
        handler.addFilter(Bounded(lambda: self.now))
        self.logger = logging.Logger("bench")
        self.logger.addHandler(handler)

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()

    def peer(self, text: str) -> None:
        """One place in the code."""
        self.logger.info("%s: %s", "10.244.0.9", text)

    def other(self) -> None:
        """Another one."""
        self.logger.info("something else")


def test_a_kind_of_line_is_bounded_and_the_rest_counted() -> None:
    bench = Bench()
    for number in range(20_000):
        bench.peer(f"too many control frames {number}")
    assert len(bench.lines) == BURST
    bench.now += 60
    bench.peer("too many control frames")
    assert bench.lines[-1] == (
        "10.244.0.9: too many control frames (and 19900 like it in the last 60 s, left out)"
    )
    bench.peer("too many control frames")
    assert bench.lines[-1] == "10.244.0.9: too many control frames"


def test_in_the_long_run_a_kind_has_its_rate() -> None:
    bench = Bench()
    for _ in range(10_000):
        bench.now += 0.1
        bench.peer("again")
    assert len(bench.lines) == pytest.approx(BURST + 1000 * PER_SECOND, abs=2)


def test_one_kind_takes_nothing_from_another() -> None:
    bench = Bench()
    for _ in range(1_000):
        bench.peer("flood")
    bench.other()
    assert bench.lines[-1] == "something else"


def test_a_long_message_is_cut() -> None:
    bench = Bench()
    bench.peer("x" * 1_000_000)
    assert len(bench.lines[0]) < WIDTH + 50
    assert bench.lines[0].endswith(f"... ({1_000_000 + 12 - WIDTH} more characters)")


def test_every_process_writes_its_log_this_way() -> None:
    root = Path(lateen.__file__).parent
    ways = re.compile(r"logging\.(basicConfig|StreamHandler|FileHandler)|addHandler")
    found = {str(p.relative_to(root)) for p in root.rglob("*.py") if ways.search(p.read_text())}
    assert found == {"observe/log.py"}


_FLOOD = """
import socket, ssl, struct, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(sys.argv[2] + "/chain.pem", sys.argv[2] + "/key.pem")
context.set_alpn_protocols(["h2"])
ping = struct.pack("!I", 8)[1:] + bytes([6, 0]) + bytes(4) + bytes(8)
greeting = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(3) + bytes([4, 0]) + bytes(4)
for _ in range(int(sys.argv[3])):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as plain:
            with context.wrap_socket(plain) as connection:
                connection.sendall(greeting + ping * 5000)
                while connection.recv(65536):
                    pass
    except OSError:
        pass
"""


@pytest.mark.live
@pytest.mark.timeout(60)
def test_a_workload_that_breaks_the_protocol_again_and_again_fills_no_log(tmp_path: Path) -> None:
    times = BURST + 50
    with live_mesh(tmp_path) as mesh:
        mesh.add_pod("rude")
        made = new_key_and_request()
        issued = mesh.api.request(
            "POST",
            "/lateen/v1/certificates",
            {"csr": made.request.decode(), "pod": {"namespace": "default", "name": "rude"}},
        )
        (tmp_path / "chain.pem").write_text(issued["chain"])
        (tmp_path / "key.pem").write_bytes(made.key)
        flood = (sys.executable, "-c", _FLOOD, str(XDS_PORT), str(tmp_path), str(times))
        subprocess.run(mesh.enter(*flood), check=True, timeout=50)
        lines = (tmp_path / "control-plane.log").read_text().splitlines()
    said = [line for line in lines if "too many control frames" in line]
    assert BURST <= len(said) <= BURST + 20
