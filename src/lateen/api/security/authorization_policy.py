"""AuthorizationPolicy: who may do what (Istio ``security/v1beta1/authorization_policy.proto``)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.resource import ApiObject
from lateen.api.security.attachment import (
    PolicyTargetReference,
    TargetReferences,
    WorkloadSelector,
)

ServiceAccounts = Annotated[list[Annotated[str, Meta(max_length=320)]], Meta(max_length=16)]


Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
"""What follows from a match. Evaluated in the order CUSTOM, DENY, ALLOW; AUDIT never blocks."""


class Source(Message, frozen=True, kw_only=True):
    """Where a request comes from. Values of a field are ORed, fields are ANDed.

    ``principals``, ``namespaces``, ``service_accounts`` and ``trust_domains`` are proved by mutual
    TLS, ``request_principals`` (``ISSUER/SUBJECT``) by a JWT; ``ip_blocks`` is the peer of the
    connection, ``remote_ip_blocks`` the client by X-Forwarded-For or the PROXY protocol.
    """

    principals: list[str] = []
    not_principals: list[str] = []
    request_principals: list[str] = []
    not_request_principals: list[str] = []
    namespaces: list[str] = []
    not_namespaces: list[str] = []
    service_accounts: ServiceAccounts = []
    not_service_accounts: ServiceAccounts = []
    trust_domains: list[str] = []
    not_trust_domains: list[str] = []
    ip_blocks: list[str] = []
    not_ip_blocks: list[str] = []
    remote_ip_blocks: list[str] = []
    not_remote_ip_blocks: list[str] = []


class Operation(Message, frozen=True, kw_only=True):
    """What a request does. ``ports`` are ports of the workload; the rest exists in HTTP only."""

    hosts: list[str] = []
    not_hosts: list[str] = []
    ports: list[str] = []
    not_ports: list[str] = []
    methods: list[str] = []
    not_methods: list[str] = []
    paths: list[str] = []
    not_paths: list[str] = []


class From(Message, frozen=True, kw_only=True):
    """One alternative of ``from``."""

    source: Source | None = None


class To(Message, frozen=True, kw_only=True):
    """One alternative of ``to``."""

    operation: Operation | None = None


class Condition(Message, frozen=True, kw_only=True):
    """``key`` is an attribute such as ``request.headers[x]``; all conditions must hold."""

    key: str
    values: list[str] = []
    not_values: list[str] = []


class Rule(Message, frozen=True, kw_only=True):
    """Matches if any ``from``, any ``to`` and all of ``when`` do; absent parts match always."""

    from_: Annotated[list[From], Meta(max_length=512)] | None = None
    to: list[To] | None = None
    when: list[Condition] = []


class ExtensionProviderReference(Message, frozen=True, kw_only=True):
    """Names an ``extensionProviders`` entry of the mesh configuration."""

    name: str = ""


class AuthorizationPolicySpec(Message, frozen=True, kw_only=True):
    """Spec of AuthorizationPolicy. ALLOW without rules allows nothing, one empty rule all."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: TargetReferences = []
    rules: Annotated[list[Rule], Meta(max_length=512)] = []
    action: Action = "ALLOW"
    provider: ExtensionProviderReference | None = None


class AuthorizationPolicy(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """security.istio.io AuthorizationPolicy."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()
    status: JsonObject = {}
