"""SPIFFE identities in Istio's layout, and the names a certificate's subject carries."""

from __future__ import annotations

import re
from typing import NamedTuple

from lateen.model.service import WorkloadIdentity
from lateen.pki.errors import PkiError

CONTROL_PLANE_NAMESPACE = "istio-system"
CONTROL_PLANE_ACCOUNT = "istiod"

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]{1,253}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_SUBJECT_VALUE = 64  # RFC 5280 appendix A, ub-common-name and its siblings


class SpiffeId(NamedTuple):
    """``spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT``."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse_spiffe_id(uri: str) -> SpiffeId:
    """The parts of a workload's SPIFFE ID (SPIFFE-ID, section 2; path layout as Istio's).

    Raises `PkiError` when ``uri`` has another shape.
    """
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme == "spiffe" and len(parts) == 5 and parts[1] == "ns" and parts[3] == "sa":
        domain, namespace, account = parts[0], parts[2], parts[4]
        if (
            _TRUST_DOMAIN.fullmatch(domain)
            and _SEGMENT.fullmatch(namespace)
            and _SEGMENT.fullmatch(account)
        ):
            return SpiffeId(domain, namespace, account)
    raise PkiError(
        f'"{uri[:300]}" is not a workload identity; '
        "expected spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT"
    )


def control_plane_id(trust_domain: str) -> SpiffeId:
    """The control plane's own identity."""
    return SpiffeId(trust_domain, CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)


def subject_values(identity: WorkloadIdentity) -> tuple[str, str, str, str, str]:
    """Workload, canonical name, canonical revision, app and cluster, as a subject may hold them.

    Peers split the RFC 4514 form of the subject at commas to fill telemetry labels, so values
    are reduced to letters, digits, ``.``, ``_`` and ``-``, and are never empty (``unknown``).
    """
    values = (
        identity.workload,
        identity.canonical_name,
        identity.canonical_revision,
        identity.app,
        identity.cluster,
    )
    workload, name, revision, app, cluster = (
        _UNSAFE.sub("-", value)[:_MAX_SUBJECT_VALUE] or "unknown" for value in values
    )
    return workload, name, revision, app, cluster
