"""Values of VirtualServices, Gateways and Sidecars that do nothing though their fields have an
effect (`lateen.translate.coverage` knows the fields)."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.findings import FieldPath
from lateen.api.networking.gateway import Gateway
from lateen.api.networking.sidecar import Sidecar
from lateen.api.networking.virtual_service import VirtualService
from lateen.api.resource import Resource
from lateen.translate.fields import Ignored
from lateen.translate.route_extras import REDIRECT_CODES


def ignored(resource: Resource) -> Iterator[Ignored]:
    """Values in ``resource`` that do nothing."""
    obj = resource.object
    if isinstance(obj, VirtualService):
        yield from _redirects(obj)
    elif isinstance(obj, Gateway):
        for index, server in enumerate(obj.spec.servers):
            yield from _socket(("spec", "servers", index, "bind"), server.bind)
    elif isinstance(obj, Sidecar):
        for index, listener in enumerate(obj.spec.egress):
            yield from _socket(("spec", "egress", index, "bind"), listener.bind)


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


def _socket(path: FieldPath, bind: str) -> Iterator[Ignored]:
    if bind.startswith("unix:///"):
        yield Ignored(
            path,
            "nothing reaches this socket: the proxy has a file system of its own",
            "Use an abstract socket, which all containers of the pod reach: unix://@NAME.",
        )
