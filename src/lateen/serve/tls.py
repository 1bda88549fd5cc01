"""The server's side of mutual TLS: contexts and the identity that a peer has proved."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lateen.pki.authority import signed_by
from lateen.pki.errors import PkiError
from lateen.pki.identity import SpiffeId, parse_spiffe_id


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The server's key and chain, and the roots that client certificates must lead to (PEM)."""

    key: bytes
    chain: bytes
    trust_bundle: bytes


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """A context for HTTP/2 that demands a client certificate. Raises ``ssl.SSLError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    # An intermediate authority in the bundle is a root of trust like any other.
    context.verify_flags |= ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    # Each connection proves its identity anew; nothing is kept for resumption.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=tls.trust_bundle.decode())
    # OpenSSL takes keys from files only; this one is in memory and has no name.
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    with contextlib.closing(os.fdopen(descriptor, "wb")) as file:
        file.write(tls.key + b"\n" + chain_with_root(tls))
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def chain_with_root(tls: ServerTls) -> bytes:
    """The chain to load (PEM): a certificate alone is followed by the root that signed it.

    OpenSSL sends the root along with a certificate that has no chain, and for that builds and
    verifies the chain anew in each handshake, a seventh of what one costs. Given the root it sends
    the same bytes.
    """
    try:
        certificate, *intermediates = x509.load_pem_x509_certificates(tls.chain)
        roots = x509.load_pem_x509_certificates(tls.trust_bundle)
    except ValueError:
        return tls.chain  # OpenSSL says what is wrong with it
    root = next((root for root in roots if signed_by(certificate, root)), None)
    if root is None or intermediates:
        return tls.chain
    return tls.chain.rstrip() + b"\n" + root.public_bytes(Encoding.PEM)


def peer_identity(certificate: Mapping[str, Any] | None) -> SpiffeId:
    """The one SPIFFE ID of a peer's certificate (``ssl.SSLSocket.getpeercert``).

    Raises `PkiError`; X.509-SVID, section 2: exactly one URI.
    """
    names = (certificate or {}).get("subjectAltName", ())
    ids = [value for kind, value in names if kind == "URI"]
    if len(ids) != 1 or not ids[0].startswith("spiffe://"):
        raise PkiError("the client certificate must carry exactly one SPIFFE ID")
    return parse_spiffe_id(ids[0])
