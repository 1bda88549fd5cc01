"""Whatever Lateen takes for usable certificates and keys, the real Envoy takes.

A refusal would name no Secret and, in one response with others, take them with it. Keys of many
kinds and damaged texts are judged by `lateen.model.key_material`; all that pass are loaded into one
Envoy.
"""

from __future__ import annotations

import base64
import datetime
import json
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lateen.envoy.binary import envoy_path
from lateen.model import key_material

Digest = hashes.SHA224 | hashes.SHA256 | hashes.SHA512
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_DIGESTS: tuple[Digest, ...] = (hashes.SHA224(), hashes.SHA256(), hashes.SHA512())
DAMAGED = 60
"""Damaged forms of each text."""
_TLS = "envoy.extensions.transport_sockets.tls.v3"


def _keys() -> dict[str, Key]:
    curves = (ec.SECP224R1(), ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1())
    return {
        **{f"rsa-{size}": rsa.generate_private_key(65537, size) for size in (1024, 2048, 2047)},
        "rsa-e3": rsa.generate_private_key(3, 2048),
        **{curve.name: ec.generate_private_key(curve) for curve in curves},
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
    }


def _certificate(key: Key, issuer: Key, digest: Digest) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    signed = built.sign(issuer, None if isinstance(issuer, ed25519.Ed25519PrivateKey) else digest)
    return signed.public_bytes(Encoding.PEM)


def _text(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(label: bytes, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label, base64.encodebytes(der), label)


def _damaged(text: bytes, chance: random.Random) -> bytes:
    """A few bytes of it changed, taken out or put in: of the text, or of what it encodes."""
    lines = text.splitlines()
    inside = chance.random() < 0.6
    data = bytearray(base64.b64decode(b"".join(lines[1:-1])) if inside else text)
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, byte = chance.randrange(len(data)), chance.randrange(256)
        data[place : place + chance.choice((0, 1, 1))] = bytes([byte][: chance.choice((0, 1, 1))])
    return (
        _pem(lines[0].strip(b"-").removeprefix(b"BEGIN "), bytes(data)) if inside else bytes(data)
    )


def pairs(chance: random.Random) -> Iterator[tuple[str, bytes, bytes]]:
    """Names, certificate chains and keys."""
    keys = _keys()
    usual = keys["secp256r1"]
    for name, key in keys.items():
        for digest in _DIGESTS:
            yield f"{name} {digest.name}", _certificate(key, key, digest), _text(key)
        leaf = _certificate(usual, key, hashes.SHA256())
        yield f"{name} above", leaf + _certificate(key, key, hashes.SHA256()), _text(usual)
        yield f"{name} wrong key", leaf, _text(key)
    for name in ("secp256r1", "rsa-2048"):
        key = keys[name]
        chain, text = _certificate(key, key, hashes.SHA256()), _text(key)
        for number in range(DAMAGED):
            yield f"{name} chain {number}", _damaged(chain, chance), text
            yield f"{name} key {number}", chain, _damaged(text, chance)
            yield f"{name} second {number}", chain + _damaged(chain, chance), text


def test_envoy_takes_every_pair_that_passes(tmp_path: Path) -> None:
    found = list(pairs(random.Random(11)))
    good = [item for item in found if not key_material.pair_problem(item[1], item[2])]
    contexts = [
        {
            "tls_certificates": [
                {
                    "certificate_chain": _inline(key_material.canonical_chain(chain)),
                    "private_key": _inline(key_material.canonical_key(key)),
                }
            ]
        }
        for _, chain, key in good
    ]
    assert 20 < len(good) < len(found) - 100
    assert _refusal(contexts, tmp_path) == ""


def test_envoy_takes_every_authority_that_passes(tmp_path: Path) -> None:
    found = [chain for _, chain, _ in pairs(random.Random(12))]
    good = [chain for chain in found if not key_material.authority_problem(chain)]
    contexts = [
        {"validation_context": {"trusted_ca": _inline(key_material.canonical_chain(chain))}}
        for chain in good
    ]
    assert 20 < len(good) < len(found)
    assert _refusal(contexts, tmp_path) == ""


def _inline(data: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(data).decode()}


def _refusal(contexts: Sequence[Mapping[str, object]], folder: Path) -> str:
    """What Envoy says against clusters with these TLS contexts; empty when it takes all."""
    clusters = [
        {
            "name": f"c{number}",
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": f"type.googleapis.com/{_TLS}.UpstreamTlsContext",
                    "common_tls_context": context,
                },
            },
        }
        for number, context in enumerate(contexts)
    ]
    path = folder / "bootstrap.json"
    path.write_text(json.dumps({"static_resources": {"clusters": clusters}}))
    done = subprocess.run(
        [str(envoy_path()), "--mode", "validate", "-c", str(path), "-l", "error"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_envoy_refuses_some_of_the_others(tmp_path: Path) -> None:
    """What the tests above would miss if Envoy were not looking."""
    chain, key = next((c, k) for name, c, k in pairs(random.Random(1)) if "wrong key" in name)
    assert key_material.pair_problem(chain, key)
    pair = {"certificate_chain": _inline(chain), "private_key": _inline(key)}
    assert _refusal([{"tls_certificates": [pair]}], tmp_path)
