"""Values of VirtualServices, Gateways and Sidecars that do nothing though their fields have an
effect (`lateen.translate.coverage` knows the fields)."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.networking.virtual_service import VirtualService
from lateen.api.resource import Resource
from lateen.translate.fields import Ignored
from lateen.translate.route_extras import REDIRECT_CODES


def ignored(resource: Resource) -> Iterator[Ignored]:
    """Values in ``resource`` that do nothing."""
    obj = resource.object
    if isinstance(obj, VirtualService):
        yield from _redirects(obj)


def _redirects(obj: VirtualService) -> Iterator[Ignored]:
    for index, route in enumerate(obj.spec.http):
        code = route.redirect.redirect_code if route.redirect is not None else 0
        if code and code not in REDIRECT_CODES:
            known = ", ".join(map(str, REDIRECT_CODES))
            yield Ignored(
                ("spec", "http", index, "redirect", "redirectCode"),
                f"Envoy does not redirect with status {code}: requests that meet this rule get 404",
                f"Use one of {known}.",
            )
