"""What a mutual TLS handshake costs the control plane, without sockets and threads.

``python -m benchmarks.handshake [--handshakes 400] [--rounds 5]``

A server context as the control plane makes it, and one that is given its certificate alone, take
turns; the figure of each is its best round. The client is OpenSSL too. It knows the server's
certificate and no root, so that it sends its own certificate alone, as an Envoy does.
"""

from __future__ import annotations

import argparse
import ssl
import tempfile
import time
from pathlib import Path

from lateen.model.service import WorkloadIdentity
from lateen.pki.authority import load_or_create
from lateen.pki.keys import new_key_and_request
from lateen.serve.tls import ServerTls, server_context


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handshakes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        servers, client = _contexts(Path(name))
    best = dict.fromkeys(servers, float("inf"))
    for _ in range(options.rounds):
        for form, server in servers.items():
            taken = sum(_server_seconds(server, client) for _ in range(options.handshakes))
            best[form] = min(best[form], taken / options.handshakes)
    for form, seconds in best.items():
        print(f"{seconds * 1000:8.2f} ms of the server  {form}")


def _contexts(folder: Path) -> tuple[dict[str, ssl.SSLContext], ssl.SSLContext]:
    authority = load_or_create(folder / "ca")
    own = authority.server_certificate(["localhost"], [])
    tls = ServerTls(own.key, own.issued.chain, authority.trust_bundle)
    file = folder / "certificate.pem"
    file.touch(mode=0o600)
    file.write_bytes(own.key + own.issued.chain)
    alone = server_context(tls)
    # Loading a certificate takes the chain of the one before away.
    alone.load_cert_chain(file)
    made = new_key_and_request()
    identity = WorkloadIdentity("default", "client", "client")
    file.write_bytes(made.key + authority.sign(made.request, identity).chain)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=own.issued.chain.decode())
    client.load_cert_chain(file)
    client.set_alpn_protocols(["h2"])
    return {"certificate alone": alone, "certificate with its root": server_context(tls)}, client


def _server_seconds(server: ssl.SSLContext, client: ssl.SSLContext) -> float:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    begun = time.perf_counter()
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    taken = time.perf_counter() - begun
    waiting = [asking, answering]
    while waiting:
        for side in tuple(waiting):
            begun = time.perf_counter()
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
            if side is answering:
                taken += time.perf_counter() - begun
    return taken


if __name__ == "__main__":
    main()
