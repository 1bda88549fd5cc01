"""What a proxy says goes into logs and onto terminals, and must not write lines of its own."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lateen.serve.access import parse_node_id
from lateen.serve.transport import Refusal
from lateen.serve.wire import parse_delta


def test_a_refused_node_id_is_one_line() -> None:
    with pytest.raises(Refusal) as refused:
        parse_node_id("sidecar~1.2.3.4~a\nINFO all is well.default~\x1b[2J")
    assert str(refused.value).isprintable()


def test_a_rejection_commands_no_terminal() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(type_url="type", response_nonce="1")
    message.error_detail.message = "first\nsecond\x1b]0;title\x07\r"
    request, _ = parse_delta(message.SerializeToString())
    assert request.error is not None
    assert request.error.message == "first\nsecond ]0;title  "
