"""PeerAuthentication and RequestAuthentication (Istio ``security/v1beta1``)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from lateen.api.base import Duration, JsonObject, Message
from lateen.api.resource import ApiObject
from lateen.api.security.attachment import (
    PolicyTargetReference,
    TargetReferences,
    WorkloadSelector,
)

Text = Annotated[str, Meta(min_length=1)]


MutualTLSMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]
"""What a workload accepts; UNSET takes the mode of the wider scope."""

Presence = Literal["OPTIONAL", "REQUIRED"]
"""Whether a request must carry a token of a rule."""


class MutualTLS(Message, frozen=True, kw_only=True):
    """Mutual TLS settings."""

    mode: MutualTLSMode = "UNSET"


class PeerAuthenticationSpec(Message, frozen=True, kw_only=True):
    """Spec of PeerAuthentication. Keys of ``port_level_mtls`` are container ports, as text."""

    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[str, MutualTLS] | None = None

    @property
    def ports(self) -> dict[int, MutualTLS]:
        """``port_level_mtls`` by number."""
        return {int(port): mtls for port, mtls in (self.port_level_mtls or {}).items()}


class PeerAuthentication(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """security.istio.io PeerAuthentication."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()
    status: JsonObject = {}


class JWTHeader(Message, frozen=True, kw_only=True):
    """A header that carries a token, after ``prefix``."""

    name: Text
    prefix: str = ""


class ClaimToHeader(Message, frozen=True, kw_only=True):
    """Copies a claim (nested with dots) of a verified token into a request header."""

    header: Annotated[str, Meta(min_length=1, pattern=r"^[-A-Za-z0-9]+$")]
    claim: Text


class JWTRule(Message, frozen=True, kw_only=True):
    """How tokens of one issuer are found and verified.

    If neither ``from_headers``, ``from_params`` nor ``from_cookies`` is given, the token is taken
    from ``Authorization: Bearer`` or the query parameter ``access_token``. Without ``jwks`` and a
    key address, keys are discovered by OpenID Connect from the issuer. ``timeout`` is for
    fetching keys, 5 s by default.
    """

    issuer: Text = ""
    audiences: list[Text] = []
    jwks_uri: Annotated[str, Meta(min_length=1, max_length=2048)] = ""
    jwks_uri_alias: Annotated[str, Meta(min_length=1, max_length=2048)] = msgspec.field(
        name="jwks_uri", default=""
    )
    jwks: str = ""
    from_headers: list[JWTHeader] = []
    from_params: list[Text] = []
    from_cookies: list[Text] = []
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: list[ClaimToHeader] = []
    timeout: Duration | None = None
    space_delimited_claims: Annotated[list[Text], Meta(max_length=64)] = []
    presence: Presence = "OPTIONAL"

    @property
    def key_address(self) -> str:
        """``jwksUri``, also when written with its older spelling ``jwks_uri``."""
        return self.jwks_uri or self.jwks_uri_alias


class RequestAuthenticationSpec(Message, frozen=True, kw_only=True):
    """Spec of RequestAuthentication: the tokens that are verified if a request carries them."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: TargetReferences = []
    jwt_rules: Annotated[list[JWTRule], Meta(max_length=4096)] = []


class RequestAuthentication(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """security.istio.io RequestAuthentication."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
    status: JsonObject = {}
