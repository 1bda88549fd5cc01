"""JSON Web Key Sets as people write them into a policy (RFC 7517, RFC 7518, RFC 8037)."""

from __future__ import annotations

import base64
import binascii
import json

_NUMBERS = {
    "RSA": ("n", "e"),
    "EC": ("x", "y"),
    "OKP": ("x",),
    "oct": ("k",),
}
_CURVES = {
    "EC": frozenset({"P-256", "P-384", "P-521", "secp256k1"}),
    "OKP": frozenset({"Ed25519", "Ed448", "X25519", "X448"}),
}
MAX_KEYS = 1024


class KeySetError(ValueError):
    """The text is no key set; the message says why."""


def parse_key_set(text: str) -> list[dict[str, object]]:
    """The keys of a key set, or of a single key written without one.

    Raises `KeySetError` if ``text`` is not JSON, or a key lacks its type or its numbers.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeySetError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise KeySetError('a key set is an object with "keys"')
    keys = value.get("keys", [value])
    if not isinstance(keys, list):
        raise KeySetError('"keys" must be a list')
    if len(keys) > MAX_KEYS:
        raise KeySetError(f"{len(keys)} keys, at most {MAX_KEYS} are read")
    return [_checked(key, index) for index, key in enumerate(keys)]


def _checked(key: object, index: int) -> dict[str, object]:
    if not isinstance(key, dict):
        raise KeySetError(f"key {index} is not an object")
    kind = key.get("kty")
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise KeySetError(f'key {index} has no known "kty" (RSA, EC, OKP or oct)')
    curves = _CURVES.get(kind)
    if curves is not None and key.get("crv") not in curves:
        raise KeySetError(f'key {index} has no known "crv" ({", ".join(sorted(curves))})')
    for name in _NUMBERS[kind]:
        number = key.get(name)
        if not isinstance(number, str) or not number or not _is_base64url(number):
            raise KeySetError(f'key {index} has no "{name}" in base64url')
    return key


def _is_base64url(text: str) -> bool:
    try:
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
