"""What happens to requests for hosts that nobody declared."""

from __future__ import annotations

from lateen.ir.route import (
    DirectResponse,
    Forward,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from lateen.translate import names
from lateen.translate.memo import Memo
from lateen.translate.view import View

_hosts: Memo[VirtualHost] = Memo(64)


def virtual_host(view: View) -> VirtualHost:
    """The virtual host of every other name: ``allow_any``, ``allow_any_dynamic_dns`` or
    ``block_all``."""
    target, reason = view.unknown_host

    def make() -> VirtualHost:
        if target == names.BLACK_HOLE:
            route = Route(
                name="block_all",
                match=RouteMatch(),
                action=DirectResponse(status=502),
                origins=(reason,),
            )
            return VirtualHost(name="block_all", domains=("*",), routes=(route,), origins=(reason,))
        name = "allow_any_dynamic_dns" if view.looks_up_unknown_hosts else "allow_any"
        route = Route(
            name=name,
            match=RouteMatch(),
            action=Forward(clusters=(WeightedCluster(target),), retry=None),
            origins=(reason,),
        )
        return VirtualHost(name=name, domains=("*",), routes=(route,), origins=(reason,))

    return _hosts.get((target, reason), make)
