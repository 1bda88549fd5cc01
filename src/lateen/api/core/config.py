"""Namespace, ServiceAccount, ConfigMap, Secret, Node."""

from __future__ import annotations

from lateen.api.base import JsonObject, Message
from lateen.api.core.selectors import LocalObjectReference, ObjectReference
from lateen.api.resource import ApiObject


class Namespace(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Namespace."""

    spec: JsonObject = {}
    status: JsonObject = {}


class ServiceAccount(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` ServiceAccount: an identity."""

    secrets: list[ObjectReference] = []
    image_pull_secrets: list[LocalObjectReference] = []
    automount_service_account_token: bool | None = None


class ConfigMap(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` ConfigMap; ``binaryData`` is base64."""

    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class Secret(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Secret; ``data`` is base64, ``stringData`` wins over it."""

    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    type: str = ""
    immutable: bool | None = None

    def __repr__(self) -> str:
        """Never shows the values."""
        keys = sorted({*self.data, *self.string_data})
        return f"Secret({self.metadata.namespace}/{self.metadata.name}, keys={keys})"


class NodeAddress(Message, frozen=True, kw_only=True):
    """An address of a node."""

    type: str
    address: str


class NodeStatus(Message, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The part of a node's status that a mesh reads."""

    addresses: list[NodeAddress] = []


class Node(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``v1`` Node; its topology labels say where its pods are."""

    spec: JsonObject = {}
    status: NodeStatus = NodeStatus()
