"""httpbin's paths, helloworld, sleep, TCP echo, websockets and the external authorizer."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth

from tests.workloads.processes import Process, curl, workload


@pytest.fixture(scope="module")
def httpbin() -> Iterator[Process]:
    with workload("httpbin") as process:
        yield process


def test_go_style_has_lists_and_python_style_strings(httpbin: Process) -> None:
    twice = ("X-Two: 1", "X-Two: 2")
    headers = json.loads(httpbin.get("/headers", *twice)[1])["headers"]
    assert headers["Host"] == ["test"]
    assert headers["X-Two"] == ["1", "2"]
    with workload("httpbin", env={"HTTPBIN_STYLE": "python"}) as other:
        assert json.loads(other.get("/get?a=1")[1])["args"] == {"a": "1"}
        assert json.loads(other.get("/headers")[1])["headers"]["Host"] == "test"


@pytest.mark.parametrize(
    ("path", "status", "contains"),
    [
        ("/status/418", 418, "teapot"),
        ("/status/999", 400, "599"),
        ("/status/500,503", (500, 503), ""),
        ("/base64/aGVsbG8=", 200, "hello"),
        ("/base64/%21", 400, "not base64"),
        ("/basic-auth/u/p", 401, ""),
        ("/bearer", 401, ""),
        ("/bytes/5?seed=1", 200, ""),
        ("/response-headers?X-A=b", 200, '"X-A"'),
        ("/response-headers?Content-Length=3", 400, "cannot be sent"),
        ("/response-headers?X-A=a%0d%0ab", 400, "cannot be sent"),
        ("/redirect/x", 400, "number"),
        ("/post", 405, "Method Not Allowed"),
        ("/uuid", 200, "uuid"),
        ("/json", 200, "slideshow"),
        ("/anything/a/b?c=d", 200, "/anything/a/b?c=d"),
        ("/nothing", 404, "no path /nothing"),
    ],
)
def test_paths(httpbin: Process, path: str, status: int | tuple[int, ...], contains: str) -> None:
    raw = httpbin.ask(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
    assert int(raw.split(b" ")[1]) in (status if isinstance(status, tuple) else (status,))
    assert contains.encode() in raw


def test_basic_auth(httpbin: Process) -> None:
    url = f"http://127.0.0.1:{httpbin.port}/basic-auth/u/p"
    assert '"authorized":true' in curl("-s", "-u", "u:p", url).stdout
    assert curl("-s", "-o/dev/null", "-w%{http_code}", "-u", "u:q", url).stdout == "401"


def test_requests_are_logged(httpbin: Process) -> None:
    httpbin.get("/status/202?logged")
    assert httpbin.process.stdout is not None
    for line in httpbin.process.stdout:
        if "logged" in line:
            assert line == '127.0.0.1 "GET /status/202?logged HTTP/1.1" 202 0\n'
            break


def test_helloworld() -> None:
    env = {"SERVICE_VERSION": "v2", "HOSTNAME": "helloworld-v2-abc"}
    with workload("helloworld", "0", env=env) as hello:
        text = "Hello version: v2, instance: helloworld-v2-abc\n"
        assert hello.get("/hello") == (200, text)
        assert hello.get("/health")[0] == 200
        assert hello.stop() == 0


def test_sleep_ends_at_sigterm() -> None:
    command = [sys.executable, "-m", "lateen.workloads.sleep", "infinity"]
    # With the signal blocked from the start it waits for the sleep instead of racing with it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process = subprocess.Popen(command, env={"PYTHONPATH": "src"})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
    assert subprocess.run([*command[:-1], "0.01s"], env={"PYTHONPATH": "src"}).returncode == 0
    assert subprocess.run([*command[:-1], "soon"], env={"PYTHONPATH": "src"}).returncode == 2


def test_tcp_echo_prefixes_each_line_on_each_port() -> None:
    with workload("tcp_echo", "0,0", "one", ports=2) as echo:
        for port in echo.ports:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"hello\nwor")
                assert client.recv(100) == b"one hello\n"
                client.sendall(b"ld\n")
                assert client.recv(100) == b"one world\n"
        assert echo.stop() == 0


def _frame(opcode: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + length + mask + masked


def test_websocket_echo_ping_and_close_at_sigterm() -> None:
    with workload("websockets", "0") as app, app.connect() as client:
        assert "WebSocket" in app.get("/")[1]
        assert app.get("/ws")[0] == 426
        key = base64.b64encode(b"the sample nonce").decode()  # RFC 6455 section 1.3
        client.sendall(
            "GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = client.recv(1000)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        client.sendall(_frame(1, "Grüße".encode()))
        assert client.recv(100) == b"\x81\x07" + "Grüße".encode()
        client.sendall(_frame(2, b"x" * 300))
        assert client.recv(1000) == b"\x82\x7e\x01\x2c" + b"x" * 300
        client.sendall(_frame(9, b"p"))
        assert client.recv(100) == b"\x8a\x01p"
        app.process.terminate()
        assert client.recv(100) == b"\x88\x02" + (1001).to_bytes(2, "big")
        client.sendall(_frame(8, (1001).to_bytes(2, "big")))
        assert client.recv(100) == b""
        assert app.process.wait(10) == 0


def test_ext_authz_allows_by_header_over_http_and_grpc() -> None:
    with workload("ext_authz", "-http", "0", "-grpc=0", ports=2) as authorizer:
        http, rpc = authorizer.ports
        allowed = curl("-si", "-H", "x-ext-authz: allow", f"127.0.0.1:{http}/headers").stdout
        assert "200 OK" in allowed
        assert "x-ext-authz-check-result: allowed" in allowed
        denied = curl("-si", "-H", "x-ext-authz: deny", f"127.0.0.1:{http}/headers").stdout
        assert "403 Forbidden" in denied
        assert "denied by ext_authz" in denied
        with grpc.insecure_channel(f"127.0.0.1:{rpc}") as channel:
            check = channel.unary_unary(
                "/envoy.service.auth.v3.Authorization/Check",
                request_serializer=auth.CheckRequest.SerializeToString,
                response_deserializer=auth.CheckResponse.FromString,
            )
            request = auth.CheckRequest()
            assert check(request, timeout=10).denied_response.status.code == 403
            request.attributes.request.http.headers["x-ext-authz"] = "allow"
            assert check(request, timeout=10).status.code == 0
        assert authorizer.stop() == 0
