"""The whole configuration of a scope."""

from __future__ import annotations

import msgspec

from lateen.api.findings import Finding
from lateen.ir.cluster import Cluster, LoadAssignment
from lateen.ir.listener import Listener
from lateen.ir.route import RouteConfiguration


class ProxyConfiguration(msgspec.Struct, frozen=True):
    """Everything proxies of one scope shall run, and what was found wrong on the way."""

    clusters: tuple[Cluster, ...] = ()
    load_assignments: tuple[LoadAssignment, ...] = ()
    listeners: tuple[Listener, ...] = ()
    routes: tuple[RouteConfiguration, ...] = ()
    findings: tuple[Finding, ...] = ()
