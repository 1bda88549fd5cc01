"""Ingress."""

from __future__ import annotations

from lateen.api.core.ingress import Ingress, IngressBackend
from lateen.api.core.rules import BAD_INGRESS
from lateen.api.findings import FieldPath
from lateen.api.metadata import DNS_SUBDOMAIN
from lateen.api.report import Report


def validate_ingress(obj: Ingress, report: Report) -> None:
    """Hosts are names, paths are absolute, backends are complete."""
    spec = obj.spec
    if not spec.rules and spec.default_backend is None:
        report.error(BAD_INGRESS, ("spec",), "needs rules or a defaultBackend")
    if spec.default_backend is not None:
        _backend(spec.default_backend, ("spec", "defaultBackend"), report)
    for index, rule in enumerate(spec.rules):
        path: FieldPath = ("spec", "rules", index)
        if rule.host and not DNS_SUBDOMAIN.fullmatch(rule.host.removeprefix("*.")):
            report.error(BAD_INGRESS, (*path, "host"), f'"{rule.host}" is not a DNS name')
        if rule.http is None:
            continue
        for number, item in enumerate(rule.http.paths):
            here: FieldPath = (*path, "http", "paths", number)
            if item.path_type != "ImplementationSpecific" and not item.path.startswith("/"):
                report.error(BAD_INGRESS, (*here, "path"), 'must start with "/"')
            _backend(item.backend, (*here, "backend"), report)


def _backend(backend: IngressBackend, path: FieldPath, report: Report) -> None:
    if (backend.service is None) == (backend.resource is None):
        report.error(BAD_INGRESS, path, "needs exactly one of service and resource")
    service = backend.service
    if service is None:
        return
    port = service.port
    if port is None or bool(port.name) == bool(port.number):
        report.error(
            BAD_INGRESS, (*path, "service", "port"), "needs exactly one of name and number"
        )
