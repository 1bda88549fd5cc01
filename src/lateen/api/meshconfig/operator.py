"""IstioOperator, of which only ``spec.meshConfig`` has an effect here."""

from __future__ import annotations

from lateen.api.base import JsonObject
from lateen.api.resource import ApiObject


class IstioOperator(ApiObject, frozen=True, kw_only=True):
    """install.istio.io IstioOperator; the rest of ``spec`` is about installing on Kubernetes."""

    spec: JsonObject = {}
    status: JsonObject = {}
