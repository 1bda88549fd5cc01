"""``networking.istio.io`` ProxyConfig."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from lateen.api.base import JsonObject, Message
from lateen.api.networking.common import MatchLabelsSelector
from lateen.api.resource import ApiObject


class ProxyImage(Message, frozen=True, kw_only=True):
    """Which proxy image is injected."""

    image_type: str = ""


class ProxyConfigSpec(Message, frozen=True, kw_only=True):
    """Settings of a proxy that take effect when it starts."""

    selector: MatchLabelsSelector | None = None
    concurrency: Annotated[int, Meta(ge=0, le=2147483647)] | None = None
    environment_variables: dict[str, Annotated[str, Meta(max_length=2048)]] = {}
    image: ProxyImage | None = None


class ProxyConfig(ApiObject, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``networking.istio.io/v1beta1`` ProxyConfig."""

    spec: ProxyConfigSpec = ProxyConfigSpec()
    status: JsonObject = {}
