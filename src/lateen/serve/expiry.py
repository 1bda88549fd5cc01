"""Certificates of Gateway credentials that have expired or soon will. The clock is the caller's:
translation has none, as Envoy loads an expired certificate and its clients refuse it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import NamedTuple

from lateen.api.findings import FieldPath, Finding
from lateen.api.networking.gateway import Gateway
from lateen.api.resource import Resource
from lateen.model import kinds
from lateen.model.credentials import credentials
from lateen.model.key_material import not_after
from lateen.model.snapshot import Snapshot
from lateen.translate import rules
from lateen.translate.gateway_tls import server_tls

WARNED_BEFORE = datetime.timedelta(days=7)


class Ending(NamedTuple):
    """When the first certificate of a credential that a Gateway names expires."""

    moment: datetime.datetime
    secret: Resource
    gateway: Resource
    path: FieldPath


def endings(snapshot: Snapshot) -> tuple[Ending, ...]:
    """The ends of the usable credentials that proxies have by the Gateways of ``snapshot``."""
    known = credentials(snapshot)
    found: dict[tuple[object, ...], Ending] = {}
    selected: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for gateway in snapshot.of_kind(*kinds.GATEWAY).values():
        spec = gateway.object.spec if isinstance(gateway.object, Gateway) else None
        for index, server in enumerate(spec.servers if spec is not None else ()):
            if spec is None or server.tls is None:
                continue
            tls = server_tls(server.tls, http=False)
            selector = tuple(spec.selector.items())
            if selector not in selected:
                selected[selector] = sorted(_namespaces(snapshot, spec.selector))
            for namespace in selected[selector]:
                used = [known.pair(name, namespace) for name in tls.certificates]
                if tls.validation:
                    used.append(known.authority(tls.validation, namespace))
                for credential in used:
                    if credential.problem or credential.resource is None:
                        continue
                    moment = not_after(credential.certificate or credential.authority)
                    place = (gateway.key, index, credential.resource.key)
                    if moment is not None and (place not in found or moment < found[place].moment):
                        path = ("spec", "servers", index, "tls")
                        found[place] = Ending(moment, credential.resource, gateway, path)
    return tuple(found.values())


def expiry_findings(ends: Iterable[Ending], now: datetime.datetime) -> tuple[Finding, ...]:
    """A warning for each of ``ends`` that is past at ``now`` or less than `WARNED_BEFORE` away."""
    return tuple(
        rules.finding(
            rules.CERTIFICATE_EXPIRES,
            end.gateway.key,
            end.gateway.provenance,
            end.path,
            f"a certificate in Secret {end.secret.key.namespace}/{end.secret.key.name} "
            f"{'expired' if end.moment <= now else 'expires'} at "
            f"{end.moment.isoformat().replace('+00:00', 'Z')}; clients refuse an expired one",
            "Replace the Secret; proxies use the new one without a restart.",
        )
        for end in ends
        if end.moment - now < WARNED_BEFORE and end.secret.key.kind == "Secret"
    )


def _namespaces(snapshot: Snapshot, selector: dict[str, str]) -> set[str]:
    """Of the pods that a Gateway selects: a credential is looked up beside its proxy."""
    return {
        pod.key.namespace
        for pod in snapshot.of_kind(*kinds.POD).values()
        if selector.items() <= pod.metadata.labels.items()
    }
