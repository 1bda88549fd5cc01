"""Private keys and signing requests, made on the side that uses them.

The module loads nothing heavy until a key is made. A process that must stay small makes keys in
a short-lived child: `new_key_and_request_apart`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

from lateen.pki.errors import PkiError

_CHILD_TIMEOUT = 30.0  # seconds; a loaded machine may take one or two


class KeyAndRequest(NamedTuple):
    """A private key (PKCS#8 PEM) and the certificate signing request (PEM) that proves it."""

    key: bytes
    request: bytes


def new_key_and_request() -> KeyAndRequest:
    """Make a P-256 key and a request for it (RFC 2986).

    The request has an empty subject: who the workload is, the authority knows better.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    return KeyAndRequest(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        request.public_bytes(serialization.Encoding.PEM),
    )


def new_key_and_request_apart() -> KeyAndRequest:
    """`new_key_and_request` in a child process; the key comes back through a pipe only.

    Raises `PkiError` when the child fails.
    """
    child = subprocess.run(
        [sys.executable, "-P", "-m", "lateen.pki.keys"],
        capture_output=True,
        check=False,
        timeout=_CHILD_TIMEOUT,
    )
    if child.returncode != 0:
        raise PkiError(f"no key could be made: {child.stderr.decode(errors='replace').strip()}")
    made = json.loads(child.stdout)
    return KeyAndRequest(made["key"].encode(), made["request"].encode())


if __name__ == "__main__":
    made = new_key_and_request()
    json.dump({"key": made.key.decode(), "request": made.request.decode()}, sys.stdout)
