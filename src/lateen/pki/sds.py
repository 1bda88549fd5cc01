"""Secrets as Envoy reads them from files (Envoy ``SdsSecretConfig`` with ``path_config_source``).

A file holds a whole ``DiscoveryResponse`` with one ``Secret`` of inline bytes. JSON is YAML, so
the files are named ``.yaml``, the one extension for which Envoy accepts either.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from lateen.pki.files import private_directory, replace_file

CERTIFICATE_SECRET = "default"
TRUST_SECRET = "ROOTCA"
CERTIFICATE_FILE = "certificate.yaml"
TRUST_FILE = "trust.yaml"
_SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def certificate_secret(chain: bytes, key: bytes, name: str = CERTIFICATE_SECRET) -> bytes:
    """The SDS file for a certificate chain and its key (both PEM)."""
    return _secret(
        name,
        {
            "tls_certificate": {
                "certificate_chain": _inline(chain),
                "private_key": _inline(key),
            }
        },
    )


def trust_secret(bundle: bytes, name: str = TRUST_SECRET) -> bytes:
    """The SDS file for a trust bundle (PEM)."""
    return _secret(name, {"validation_context": {"trusted_ca": _inline(bundle)}})


def write_secrets(
    directory: Path,
    chain: bytes,
    key: bytes,
    bundle: bytes,
    *,
    owner: tuple[int, int] | None = None,
) -> None:
    """Put or replace both files in ``directory``: trust first, so that it is never behind.

    ``owner`` is the uid and gid of the files. Raises ``OSError``.
    """
    private_directory(directory)
    replace_file(directory / TRUST_FILE, trust_secret(bundle), owner=owner)
    replace_file(directory / CERTIFICATE_FILE, certificate_secret(chain, key), owner=owner)


def _inline(content: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(content).decode()}


def _secret(name: str, body: dict[str, dict[str, dict[str, str]]]) -> bytes:
    return json.dumps({"resources": [{"@type": _SECRET_TYPE, "name": name, **body}]}).encode()
