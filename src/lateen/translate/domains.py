"""Host names by which clients reach a service: the domains of its virtual host."""

from __future__ import annotations

from lateen.model.names import DOMAIN
from lateen.model.service import Service


def service_domains(
    service: Service, namespace: str, addresses: tuple[str, ...], domain: str = DOMAIN
) -> tuple[str, ...]:
    """Every name of ``service`` for clients in ``namespace``, the full name first.

    ``addresses`` are the virtual IPs that those clients know. Headless services get a wildcard
    beside each name, for their pods' own names.
    """
    found = [*host_forms(service.hostname, namespace, domain), *map(_bracketed, addresses)]
    if service.headless:
        plain = host_forms(service.hostname, namespace, domain)
        found += [f"*.{name}" for name in plain]
    return tuple(dict.fromkeys(name for name in found if "/" not in name))


def host_forms(hostname: str, namespace: str, domain: str = DOMAIN) -> tuple[str, ...]:
    """``hostname``, its absolute form, and the short forms that the search path completes."""
    if hostname.startswith("*"):
        return (hostname,)
    forms = [hostname, f"{hostname}."]
    suffix = f".svc.{domain}"
    if hostname.endswith(suffix):
        stem = hostname[: -len(suffix)]
        forms += [f"{stem}.svc", stem]
        name, _, own = stem.rpartition(".")
        if own == namespace and name:
            forms.append(name)
    return tuple(forms)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
