"""`up` says "open URL" only of what answers."""

from __future__ import annotations

import socket
import threading

import pytest

from lateen.cli.check import policies
from lateen.cli.opening import answering, say_open
from tests.ports import free_port


def test_only_what_answers_is_to_be_opened(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that waits for a request answers; a closed port, and one whose connections are
    closed at once (the forwarder's when nothing listens behind it), do not."""
    waiting, closing = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    threading.Thread(target=_close_all, args=(closing,), daemon=True).start()
    ports = [waiting.getsockname()[1], closing.getsockname()[1], free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    secure = [f"https://127.0.0.1:{port}" for port in ports[1:]]
    with waiting, closing:
        assert answering([*urls, *secure]) == urls[:1]
        say_open(urls)
    said = capsys.readouterr().out
    assert f"open {urls[0]}" in said
    assert f"open {urls[1]}" not in said
    assert f"{urls[1]} is published, and nothing answers there" in said


def _close_all(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


@pytest.mark.parametrize(
    ("rule", "kind", "path", "state"),
    [
        ("LT2009", "AuthorizationPolicy", [], "failure"),
        ("LT2009", "RequestAuthentication", [], "failure"),
        ("LT2006", "NetworkPolicy", [], "failure"),
        ("LT1008", "PeerAuthentication", [], "failure"),
        ("LT2006", "PeerAuthentication", ["spec", "mtls"], "ok"),
        ("LT2006", "EnvoyFilter", [], "ok"),
        ("LT1003", "Service", [], "ok"),
    ],
)
def test_check_fails_when_a_security_policy_does_nothing(
    rule: str, kind: str, path: list[str], state: str
) -> None:
    subject = {"kind": kind, "namespace": "shop", "name": "a"}
    fact = policies([{"rule": rule, "object": subject, "path": path, "file": "p.yaml", "line": 3}])
    assert fact.state == state
    if state == "failure":
        assert f"1 security policy does nothing: {kind} shop/a (p.yaml:3)" in fact.message


def test_check_names_a_few_of_many_policies() -> None:
    subject = {"kind": "AuthorizationPolicy", "namespace": "shop"}
    many = [{"rule": "LT2009", "object": {**subject, "name": f"p{n}"}} for n in range(7)]
    fact = policies(many)
    assert "7 security policies do nothing" in fact.message
    assert fact.message.endswith("and 2 more")
