"""Names that networking objects use: hosts, ports, protocols, labels, addresses.

The ``*_problem`` functions return why a value is wrong, or an empty string.
"""

from __future__ import annotations

import base64
import ipaddress
import re

# Istio allows upper case in labels of host names, unlike Kubernetes in names of objects.
_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_WILDCARD_LABEL = re.compile(r"\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_LABEL_KEY = re.compile(
    r"(?:[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)*/)?"
    r"((?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])"
)
_LABEL_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SNI_CLUSTER = re.compile(r"outbound_.([0-8].*).*")
_NUMBER = re.compile(r"[+-]?[0-9]+")
_MAX_LABEL = 63
_MAX_DOMAIN = 255

HTTP_PROTOCOLS = frozenset(("http", "http2", "http_proxy", "grpc", "grpc-web"))
TLS_PROTOCOLS = frozenset(("https", "tls"))
TCP_PROTOCOLS = frozenset(("tcp", "https", "tls", "mongo", "redis", "mysql"))
PROTOCOLS = HTTP_PROTOCOLS | TCP_PROTOCOLS | frozenset(("udp", "hbone", "doublehbone"))


def is_label(text: str) -> bool:
    """Whether ``text`` is a DNS label of at most 63 characters."""
    return len(text) <= _MAX_LABEL and _LABEL.fullmatch(text) is not None


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def subnet_problem(text: str) -> str:
    """An address, or an address with a prefix length (host bits may be set)."""
    if text.count("/") == 1:
        address, _, length = text.partition("/")
        if length.isdigit() and (length == "0" or not length.startswith("0")) and is_ip(address):
            bits = ipaddress.ip_address(address).max_prefixlen
            if int(length) <= bits:
                return ""
        return f"{text} is not a valid CIDR block"
    return "" if is_ip(text) else f"{text} is not a valid IP address"


def port_problem(number: int) -> str:
    """1 to 65535."""
    return "" if 1 <= number <= 65535 else f"port number {number} must be in the range 1..65535"


def _length_problem(name: str) -> str:
    if not name:
        return "empty domain name not allowed"
    if len(name) > _MAX_DOMAIN:
        return f'domain name "{name[:30]}…" too long (max {_MAX_DOMAIN})'
    return ""


def _labels_problem(domain: str) -> str:
    parts = domain.split(".")
    if _NUMBER.fullmatch(parts[-1]):
        return f'domain name "{domain}" invalid (top level domain cannot be all-numeric)'
    for index, part in enumerate(parts):
        if index == len(parts) - 1 and not part:
            break
        if not is_label(part):
            return f'domain name "{domain}" invalid (label "{part}" invalid)'
    return ""


def fqdn_problem(name: str) -> str:
    """A DNS name without wildcard; a trailing dot is allowed."""
    return _length_problem(name) or _labels_problem(name)


def wildcard_problem(domain: str) -> str:
    """A DNS name whose first label may be or start with ``*``."""
    problem = _length_problem(domain)
    if problem:
        return problem
    first, dot, rest = domain.partition(".")
    if len(first) > _MAX_LABEL or _WILDCARD_LABEL.fullmatch(first) is None:
        return f'domain name "{domain}" invalid (label "{first}" invalid)'
    return _labels_problem(rest) if dot else ""


def gateway_bound_problem(domain: str, by_sni: bool) -> str:
    """As `wildcard_problem`; matching by SNI also ``outbound_.PORT_.SUBSET_.HOST``."""
    if by_sni and domain.startswith("outbound_."):
        if _SNI_CLUSTER.search(domain) is None:
            return f'domain name "{domain}" invalid'
        return _length_problem(domain)
    return wildcard_problem(domain)


def partial_wildcard_problem(host: str) -> str:
    """``*`` stands for whole labels only."""
    if "*" in host and host != "*" and not host.startswith("*."):
        return f'partial wildcard "{host}" not allowed'
    return ""


def namespaced_host_problem(text: str, in_gateway: bool, generated: bool = False) -> str:
    """``NAMESPACE/HOST`` of a Sidecar, or of a Gateway where the namespace may be left out."""
    namespace, slash, host = text.partition("/")
    if not slash:
        if in_gateway:
            return _host_part_problem(text, in_gateway)
        return "host must be of form namespace/dnsName"
    if not namespace or not host:
        return "config namespace and dnsName in host entry cannot be empty"
    special = {"*", "."}
    if not in_gateway or generated:
        special.add("~")
    name = namespace
    if not in_gateway and namespace.startswith("~"):
        name = namespace[1:] or "~"
    if name not in special and not is_label(name):
        place = "gateway" if in_gateway else "sidecar"
        return f'invalid namespace value "{namespace}" in {place}'
    return _host_part_problem(host, in_gateway)


def _host_part_problem(host: str, in_gateway: bool) -> str:
    if host != "*" and "." not in host and not (in_gateway and is_ip(host)):
        return f'short names (non FQDN) are not allowed: "{host}"'
    problem = wildcard_problem(host)
    if problem and not (in_gateway and is_ip(host)):
        return problem
    return partial_wildcard_problem(host)


def labels_problem(labels: dict[str, str]) -> str:
    """Label keys and values as Istio takes them."""
    for key, value in labels.items():
        match = _LABEL_KEY.fullmatch(key)
        if match is None or len(match[1]) > _MAX_LABEL:
            return f'invalid label key "{key}"'
        if len(value) > _MAX_LABEL or _LABEL_VALUE.fullmatch(value) is None:
            return f'invalid value "{value}" of label "{key}"'
    return ""


def unix_address_problem(path: str) -> str:
    """The path behind ``unix://``: absolute, or ``@`` for an abstract socket."""
    if not path:
        return "unix address must not be empty"
    if path.startswith("@"):
        return ""
    if not path.startswith("/") or path.endswith("/"):
        return f"{path} is not an absolute path to a file"
    return ""


def host_matches(one: str, other: str) -> bool:
    """Whether some host name is matched by both (wildcards on either side)."""
    if one.startswith("*") and other.startswith("*"):
        shorter, longer = sorted((one, other), key=len)
        return longer[1:].endswith(shorter[1:])
    if one.startswith("*"):
        return other.endswith(one[1:])
    if other.startswith("*"):
        return one.endswith(other[1:])
    return one == other


def host_subset(one: str, other: str) -> bool:
    """Whether everything that ``one`` matches is matched by ``other``."""
    if one.startswith("*") and not other.startswith("*"):
        return False
    if other.startswith("*"):
        covered = one.endswith(other[1:])
        return covered and (len(one) >= len(other) or not one.startswith("*"))
    return one == other


_HASH_PIN = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){31}")


def is_hash_pin(text: str) -> bool:
    """Whether it is the SHA-256 of a certificate in hexadecimal, with colons or without."""
    return len(text) <= 95 and _HASH_PIN.fullmatch(text) is not None


def is_key_pin(text: str) -> bool:
    """Whether it is the SHA-256 of a public key in base64."""
    try:
        return len(text) == 44 and len(base64.b64decode(text, validate=True)) == 32
    except ValueError:
        return False
