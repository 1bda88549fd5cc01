"""Key sets written into a policy: whatever the text, an answer and never an exception."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from lateen.api.security.jwks import MAX_KEYS, KeySetError, parse_key_set

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["keys", "kty", "n", "e", "crv", "x", "y", "k"]), inner)
    ),
    max_leaves=20,
)


def reason(text: str) -> str | None:
    """Why ``text`` is refused; ``None`` if its keys were read."""
    try:
        parse_key_set(text)
    except KeySetError as error:
        return str(error)
    return None


@given(JSON)
def test_any_json_is_a_key_set_or_refused_with_a_reason(value: object) -> None:
    assert reason(json.dumps(value)) != ""


@given(st.text(max_size=60))
def test_any_text_is_a_key_set_or_refused_with_a_reason(text: str) -> None:
    assert reason(text) != ""


def test_a_generated_key_is_read() -> None:
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    key = {"kty": "EC", "crv": "P-256", "x": _base64(numbers.x), "y": _base64(numbers.y)}
    assert parse_key_set(json.dumps({"keys": [key]})) == [key]
    assert parse_key_set(json.dumps(key)) == [key]


def test_the_number_of_keys_is_bounded() -> None:
    key = {"kty": "oct", "k": "AA"}
    with pytest.raises(KeySetError, match="at most"):
        parse_key_set(json.dumps({"keys": [key] * (MAX_KEYS + 1)}))


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=")
