"""TLS termination of Gateway servers."""

from __future__ import annotations

from typing import NamedTuple

from lateen.api.networking.gateway import ServerTLSSettings
from lateen.api.networking.names import is_hash_pin, is_key_pin
from lateen.api.networking.validate_tls import MOST_CERTIFICATES
from lateen.ir.tls import (
    ROOT_CERTIFICATES,
    WORKLOAD_CERTIFICATE,
    ClientCertificate,
    DownstreamTls,
)
from lateen.model.credentials import CA_SUFFIX, CONFIG_MAP
from lateen.translate import alpn

_VERSIONS = {
    "TLSV1_0": "TLSv1_0",
    "TLSV1_1": "TLSv1_1",
    "TLSV1_2": "TLSv1_2",
    "TLSV1_3": "TLSv1_3",
}
_CLIENT = {
    "MUTUAL": ClientCertificate.REQUIRED,
    "ISTIO_MUTUAL": ClientCertificate.REQUIRED,
    "OPTIONAL_MUTUAL": ClientCertificate.OPTIONAL,
}
HANDSHAKE_TIMEOUT = 15.0
"""Seconds a client of a gateway may take for its TLS handshake."""


def secret_name(credential: str) -> str:
    """SDS name of a ``credentialName``."""
    return credential if "://" in credential else f"kubernetes://{credential}"


def authority_name(credential: str) -> str:
    """SDS name of the CA of a credential. It is never that of a certificate, as a Secret may hold
    both and a name stands for one of them."""
    name = secret_name(credential)
    return name if name.startswith(CONFIG_MAP) or name.endswith(CA_SUFFIX) else name + CA_SUFFIX


def server_tls(
    settings: ServerTLSSettings, *, http: bool, minimum: str = "TLSv1_2"
) -> DownstreamTls:
    """How the gateway terminates TLS. ``http`` offers HTTP's protocols by ALPN, ``minimum``
    is the version where the server names none."""
    mesh = settings.mode == "ISTIO_MUTUAL"
    client = _CLIENT.get(settings.mode, ClientCertificate.NONE)
    credentials = _credentials(settings)
    certificates: tuple[str, ...] = tuple(secret_name(name) for name in credentials)
    files: tuple[tuple[str, str], ...] = ()
    if mesh:
        certificates = (WORKLOAD_CERTIFICATE,)
    elif not certificates and settings.server_certificate:
        files = ((settings.server_certificate, settings.private_key),)
    elif not certificates:
        pairs = (settings.tls_certificates or ())[:MOST_CERTIFICATES]
        files = tuple((pair.server_certificate, pair.private_key) for pair in pairs)
    validation, bundle = "", ""
    if mesh:
        validation = ROOT_CERTIFICATES
    elif client is not ClientCertificate.NONE:
        if settings.ca_cert_credential_name:
            validation = authority_name(settings.ca_cert_credential_name)
        elif credentials:
            validation = authority_name(credentials[0])
        else:
            bundle = settings.ca_certificates
    pins = _pins(settings)
    return DownstreamTls(
        certificates=() if files else certificates,
        validation=validation,
        client_certificate=client,
        alpn=alpn.SERVER_HTTP if http else (),
        minimum_version=_VERSIONS.get(settings.min_protocol_version, minimum),
        maximum_version=_VERSIONS.get(settings.max_protocol_version, "TLSv1_3"),
        cipher_suites=tuple(settings.cipher_suites),
        ecdh_curves=tuple(settings.ecdh_curves),
        subject_alt_names=tuple(settings.subject_alt_names),
        verify_spki=pins.keys,
        verify_hash=pins.hashes,
        accept_untrusted=bool(settings.insecure_skip_verify),
        file_certificates=files,
        file_validation=bundle,
    )


def _credentials(settings: ServerTLSSettings) -> list[str]:
    if settings.credential_names:
        return settings.credential_names[:MOST_CERTIFICATES]
    return [settings.credential_name] if settings.credential_name else []


class _Pins(NamedTuple):
    keys: tuple[str, ...]
    hashes: tuple[str, ...]


_NO_CERTIFICATE = "0" * 64
"""A hash that no certificate has."""


def _pins(settings: ServerTLSSettings) -> _Pins:
    """The pinned keys and certificates that Envoy can read; one is enough for a client.

    Pins that no certificate can match are left out, as Envoy would refuse the whole listener. If
    there are no others, no client is let in.
    """
    keys = tuple(pin for pin in settings.verify_certificate_spki if is_key_pin(pin))
    hashes = tuple(pin for pin in settings.verify_certificate_hash if is_hash_pin(pin))
    if (settings.verify_certificate_spki or settings.verify_certificate_hash) and not (
        keys or hashes
    ):
        hashes = (_NO_CERTIFICATE,)
    return _Pins(keys, hashes)
