"""Whether something answers on a published port, seen from this machine.

No request is sent: an application need not know that it was looked at.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from lateen.cli.output import NOTE, OK, say

_PATIENCE = 2.0
"""Seconds for a connection or a TLS handshake."""
_CLOSES_WITHIN = 0.25
"""Seconds within which a connection to a port behind which nothing listens is closed: the
forwarder accepts it, and finds out then."""


def answering(urls: Iterable[str]) -> list[str]:
    """Those of ``urls`` (``http://HOST:PORT``, ``https://HOST:PORT``) at which something serves."""
    found = list(urls)
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [url for url, good in zip(found, pool.map(_answers, found), strict=True) if good]


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    try:
        with socket.create_connection(address, _PATIENCE) as connection:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                # Whose certificate it is does not matter: nothing is sent.
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                with context.wrap_socket(connection):
                    return True
            connection.settimeout(_CLOSES_WITHIN)
            return connection.recv(1) != b""
    except TimeoutError:
        # An HTTP server waits for the request; a TLS server would have answered.
        return parts.scheme == "http"
    except OSError:
        return False


def say_open(urls: list[str]) -> None:
    """Name the addresses to open, and apart from them published ones at which nothing answers."""
    good = answering(urls)
    for url in good:
        say(OK, f"open {url}")
    for url in urls:
        if url not in good:
            how = " without a host name" if url.startswith("https://") else ""
            say(NOTE, f"{url} is published, and nothing answers there{how}")
