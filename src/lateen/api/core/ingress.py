"""Ingress and IngressClass."""

from __future__ import annotations

from typing import Literal

from lateen.api.base import JsonObject, Message
from lateen.api.resource import ApiObject


class ServiceBackendPort(Message, frozen=True, kw_only=True):
    """A service port by name or number."""

    name: str = ""
    number: int = 0


class IngressServiceBackend(Message, frozen=True, kw_only=True):
    """A service of the Ingress's namespace."""

    name: str
    port: ServiceBackendPort | None = None


class TypedLocalObjectReference(Message, frozen=True, kw_only=True):
    """An object of the same namespace by kind and name."""

    api_group: str | None = None
    kind: str
    name: str


class IngressBackend(Message, frozen=True, kw_only=True):
    """Where requests go."""

    service: IngressServiceBackend | None = None
    resource: TypedLocalObjectReference | None = None


class HTTPIngressPath(Message, frozen=True, kw_only=True):
    """A path and its backend."""

    path: str = ""
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"]
    backend: IngressBackend


class HTTPIngressRule(Message, frozen=True, kw_only=True):
    """Paths of one host."""

    paths: list[HTTPIngressPath]


class IngressRule(Message, frozen=True, kw_only=True):
    """Rules of one host; no host means all."""

    host: str = ""
    http: HTTPIngressRule | None = None


class IngressTLS(Message, frozen=True, kw_only=True):
    """Hosts and the Secret with their certificate."""

    hosts: list[str] = []
    secret_name: str = ""


class IngressSpec(Message, frozen=True, kw_only=True):
    """``networking.k8s.io/v1`` IngressSpec."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: list[IngressTLS] = []
    rules: list[IngressRule] = []


class Ingress(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.k8s.io/v1`` Ingress."""

    spec: IngressSpec = IngressSpec()
    status: JsonObject = {}


class IngressClassSpec(Message, frozen=True, kw_only=True):
    """Which controller serves the class."""

    controller: str = ""
    parameters: JsonObject | None = None


class IngressClass(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.k8s.io/v1`` IngressClass."""

    spec: IngressClassSpec = IngressClassSpec()
