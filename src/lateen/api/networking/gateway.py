"""``networking.istio.io`` Gateway."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import JsonObject, Message, UInt32
from lateen.api.resource import ApiObject

TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class TLSCertificate(Message, frozen=True, kw_only=True):
    """Paths of a certificate and its key."""

    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""


class ServerTLSSettings(Message, frozen=True, kw_only=True):
    """TLS of a server."""

    https_redirect: bool = False
    mode: Literal[
        "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
    ] = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: str = ""
    credential_names: Annotated[list[str], Meta(min_length=1)] | None = None
    ca_cert_credential_name: str = ""
    tls_certificates: Annotated[list[TLSCertificate], Meta(min_length=1)] | None = None
    subject_alt_names: list[str] = []
    verify_certificate_spki: list[str] = []
    verify_certificate_hash: list[str] = []
    min_protocol_version: TLSProtocol = "TLS_AUTO"
    max_protocol_version: TLSProtocol = "TLS_AUTO"
    cipher_suites: list[str] = []
    ecdh_curves: list[str] = []
    insecure_skip_verify: bool | None = None


class Port(Message, frozen=True, kw_only=True):
    """A port that a server listens on. ``targetPort`` has no effect."""

    number: UInt32
    protocol: str
    name: str
    target_port: UInt32 = 0


class Server(Message, frozen=True, kw_only=True):
    """One listener of a gateway and the hosts it serves."""

    port: Port
    bind: str = ""
    hosts: list[str]
    tls: ServerTLSSettings | None = None
    default_endpoint: str = ""
    name: str = ""


class GatewaySpec(Message, frozen=True, kw_only=True):
    """Servers of the proxies that ``selector`` picks."""

    servers: list[Server] = []
    selector: dict[str, str] = {}


class Gateway(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1`` Gateway."""

    spec: GatewaySpec = GatewaySpec()
    status: JsonObject = {}
