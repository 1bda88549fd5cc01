"""Files the node makes for a pod: resolv.conf, hosts, the proxy's bootstrap."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lateen.runtime.injection import canonical_name, canonical_revision, workload_name
from lateen.runtime.raw import Raw, labels_of, namespace_of, spec_of


def resolv_conf(pod: Raw, dns_address: str, domain: str) -> str:
    """/etc/resolv.conf by ``dnsConfig`` and Kubernetes' ``ClusterFirst`` policy."""
    config = spec_of(pod).get("dnsConfig") or {}
    namespace = namespace_of(pod)
    own = spec_of(pod).get("dnsPolicy") == "None"
    cluster = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
    searches = [*([] if own else cluster), *(config.get("searches") or [])]
    options = {} if own else {"ndots": "5"}
    options.update({o["name"]: str(o.get("value") or "") for o in config.get("options") or []})
    servers = [*([] if own else [dns_address]), *(config.get("nameservers") or [])]
    lines = [f"nameserver {server}" for server in dict.fromkeys(servers)]
    if searches:
        lines.append(f"search {' '.join(dict.fromkeys(searches))}")
    if options:
        written = [f"{name}:{value}" if value else name for name, value in options.items()]
        lines.append(f"options {' '.join(written)}")
    return "\n".join([*lines, ""])


def hosts(pod: Raw, ip: str, hostname: str, domain: str) -> str:
    """/etc/hosts with the pod's own name and its ``hostAliases``."""
    subdomain = spec_of(pod).get("subdomain")
    full = f"{hostname}.{subdomain}.{namespace_of(pod)}.svc.{domain} " if subdomain else ""
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        f"{ip} {full}{hostname}",
        *(
            f"{alias['ip']} {' '.join(alias.get('hostnames') or [])}"
            for alias in spec_of(pod).get("hostAliases") or []
        ),
    ]
    return "\n".join([*lines, ""])


def proxy_environment(pod: Raw, trust_domain: str) -> dict[str, str]:
    """Who the pod is, for its own proxy's telemetry labels (``%ENVIRONMENT(...)%``)."""
    namespace = namespace_of(pod)
    account = spec_of(pod).get("serviceAccountName") or "default"
    labels = labels_of(pod)
    return {
        "LATEEN_WORKLOAD": workload_name(pod),
        "LATEEN_NAMESPACE": namespace,
        "LATEEN_APP": labels.get("app") or canonical_name(pod),
        "LATEEN_VERSION": labels.get("version") or canonical_revision(pod),
        "LATEEN_CANONICAL_NAME": canonical_name(pod),
        "LATEEN_CANONICAL_REVISION": canonical_revision(pod),
        "LATEEN_CLUSTER": "Kubernetes",
        "LATEEN_PRINCIPAL": f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}",
    }


def write_private_json(path: Path, data: object, owner: int | None) -> None:
    """Write a file only its owner can read (mode 0600)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(data, stream)
    if owner is not None:
        os.chown(path, owner, owner)
