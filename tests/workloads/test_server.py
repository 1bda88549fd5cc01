"""The HTTP server under keep-alive, pipelining, broken requests and SIGTERM."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.workloads.processes import Process, read_all, read_answer, workload

GET = "GET {} HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(scope="module")
def httpbin() -> Iterator[Process]:
    with workload("httpbin") as process:
        yield process


def test_keep_alive_serves_many_requests_on_one_connection(httpbin: Process) -> None:
    with httpbin.connect() as client:
        for number in range(20):
            client.sendall(GET.format(f"/get?n={number}").encode())
            assert f'"{number}"'.encode() in read_answer(client)


def test_pipelined_requests_are_answered_in_order_even_when_one_is_slow(httpbin: Process) -> None:
    last = "GET /status/203 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    requests = [GET.format(f"/{each}") for each in ("status/201", "delay/0.2", "status/202")]
    answers = httpbin.ask("".join([*requests, last]))
    places = [answers.index(f"HTTP/1.1 {status} ".encode()) for status in (201, 200, 202, 203)]
    assert places == sorted(places)


def test_pipelined_requests_are_answered_after_the_client_half_closes(httpbin: Process) -> None:
    with httpbin.connect() as client:
        client.sendall((GET.format("/delay/0.1") + GET.format("/status/204")).encode())
        client.shutdown(socket.SHUT_WR)
        answers = read_all(client)
    assert b"HTTP/1.1 200 " in answers
    assert b"HTTP/1.1 204 " in answers


def test_a_request_may_arrive_byte_by_byte(httpbin: Process) -> None:
    with httpbin.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for letter in "POST /post HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello":
            client.sendall(letter.encode())
        assert b'"data": "hello"' in read_answer(client)


def test_chunked_bodies(httpbin: Process) -> None:
    head = "POST /post HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    with httpbin.connect() as client:
        client.sendall((head + "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n").encode())
        assert b'"data": "hello!"' in read_answer(client)
        client.sendall(GET.format("/status/200").encode())
        assert b" 200 " in read_answer(client)


def test_expect_100_continue(httpbin: Process) -> None:
    with httpbin.connect() as client:
        client.sendall(
            b"POST /post HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert b'"data": "ok"' in read_answer(client)


def test_head_has_the_length_of_get_and_no_body(httpbin: Process) -> None:
    request = "HEAD /html HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
    head, _, body = httpbin.ask(request).partition(b"\r\n\r\n")
    assert body == b""
    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert length == len(httpbin.get("/html")[1].encode())


def test_http_10_closes_and_streams_without_chunks(httpbin: Process) -> None:
    head, _, body = httpbin.ask("GET /stream/2 HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(body.splitlines()) == 2


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: t\r\n\r\n", 505),
        ("GET  / HTTP/1.1\r\nHost: t\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : t\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: t\r\n folded: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (
            "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (f"GET / HTTP/1.1\r\nHost: t\r\nX: {'x' * 70000}\r\n\r\n", 431),
    ],
)
def test_ambiguous_or_oversized_requests_are_refused(
    httpbin: Process, request_text: str, status: int
) -> None:
    answer = httpbin.ask(request_text)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in answer


def test_ipv6_is_served_too_where_there_is_any(httpbin: Process) -> None:
    try:
        client = socket.create_connection(("::1", httpbin.port), timeout=5)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with client:
        client.sendall(GET.format("/status/200").encode())
        assert b" 200 " in read_answer(client)


def test_sigterm_finishes_the_request_in_flight_and_exits_0() -> None:
    with workload("httpbin") as process, process.connect() as busy, process.connect() as idle:
        busy.sendall(GET.format("/delay/0.6").encode())
        time.sleep(0.2)
        process.process.terminate()
        answer = read_answer(busy)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
        assert idle.recv(10) == b""
        assert process.process.wait(10) == 0


def test_sigterm_answers_what_was_sent_before_it() -> None:
    with workload("httpbin") as process, process.connect() as client:
        requests = GET.format("/delay/0.3") + GET.format("/status/201") + GET.format("/status/202")
        client.sendall(requests.encode())
        time.sleep(0.1)
        process.process.terminate()
        answers = read_all(client)
        for status in (200, 201, 202):
            assert f"HTTP/1.1 {status} ".encode() in answers
        assert answers.count(b"Connection: close") == 1
        assert process.process.wait(10) == 0


def test_sigterm_stops_accepting() -> None:
    with workload("httpbin") as process, process.connect() as busy:
        busy.sendall(GET.format("/delay/1").encode())
        process.process.terminate()
        time.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            process.connect()
        assert read_answer(busy).startswith(b"HTTP/1.1 200 ")


def test_a_taken_port_is_said_plainly(httpbin: Process, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(IndexError),
        workload("httpbin", "-port", str(httpbin.port)) as second,
    ):
        second.process.wait(10)
    assert f"cannot listen on port {httpbin.port}" in capfd.readouterr().err
