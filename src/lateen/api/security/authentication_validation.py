"""What is wrong with a PeerAuthentication or RequestAuthentication by itself."""

from __future__ import annotations

from urllib.parse import urlsplit

from lateen.api.base import duration_nanoseconds
from lateen.api.findings import FieldPath
from lateen.api.report import Report
from lateen.api.security import rules
from lateen.api.security.attachment import (
    validate_attachment,
    validate_selector,
)
from lateen.api.security.authentication import (
    JWTRule,
    PeerAuthentication,
    RequestAuthentication,
)
from lateen.api.security.jwks import KeySetError, parse_key_set

_MILLISECOND = 1_000_000


def validate_peer_authentication(policy: PeerAuthentication, report: Report) -> None:
    """Check the selector and the ports."""
    spec = policy.spec
    validate_selector(spec.selector, report)
    if spec.port_level_mtls is None:
        selected = spec.selector is not None and bool(spec.selector.match_labels)
        if selected and spec.mtls is None:
            report.warn(
                rules.NO_MTLS_MODE,
                ("spec", "selector"),
                "neither mtls nor portLevelMtls is set: the workloads keep the wider scope's mode",
                "Set mtls.mode; as it is, the policy only keeps younger ones from these workloads.",
            )
        return
    path = ("spec", "portLevelMtls")
    if not spec.port_level_mtls:
        report.error(rules.BAD_MTLS_PORTS, path, "portLevelMtls is given but has no port")
    elif spec.selector is None or not spec.selector.match_labels:
        report.error(
            rules.BAD_MTLS_PORTS,
            path,
            "portLevelMtls requires selector: ports belong to workloads",
            "Add selector.matchLabels, or set mtls for the whole namespace.",
        )
    for port in spec.port_level_mtls:
        if not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
            report.error(
                rules.BAD_MTLS_PORTS,
                (*path, port),
                f"port must be between 1-65535, not {port}",
                "Use the container's port, not the service's.",
            )


def validate_request_authentication(policy: RequestAuthentication, report: Report) -> None:
    """Check attachment and every JWT rule."""
    validate_attachment(policy.spec, report)
    for index, rule in enumerate(policy.spec.jwt_rules):
        _check_rule(rule, ("spec", "jwtRules", index), report)


def _check_rule(rule: JWTRule, path: FieldPath, report: Report) -> None:
    if not rule.issuer and not rule.key_address:
        report.error(
            rules.KEYS_MISSING,
            path,
            "issuer or jwksUri must be set",
            "Without an issuer, any issuer whose keys are at jwksUri is accepted.",
        )
    given = [
        name
        for name, value in (
            ("jwksUri", rule.jwks_uri),
            ("jwks_uri", rule.jwks_uri_alias),
            ("jwks", rule.jwks),
        )
        if value
    ]
    if len(given) > 1:
        report.error(
            rules.KEYS_TWICE, (*path, given[1]), f"{' and '.join(given)} are both set, use one"
        )
    if rule.key_address:
        _check_address(rule, path, report)
    if rule.jwks:
        _check_keys(rule.jwks, (*path, "jwks"), report)
    if rule.timeout is not None:
        _check_timeout(rule.timeout, (*path, "timeout"), report)


def _check_address(rule: JWTRule, path: FieldPath, report: Report) -> None:
    where = (*path, "jwksUri" if rule.jwks_uri else "jwks_uri")
    try:
        parts = urlsplit(rule.key_address)
        _ = parts.port
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        report.error(
            rules.BAD_KEYS_URI,
            where,
            f'"{rule.key_address}" is not an http or https URL',
            "Write for instance https://issuer.example.com/jwks.json.",
        )


def _check_keys(text: str, path: FieldPath, report: Report) -> None:
    try:
        keys = parse_key_set(text)
    except KeySetError as error:
        report.error(rules.BAD_KEYS, path, f"jwks parse error: {error}")
        return
    private = [str(key.get("kid", index)) for index, key in enumerate(keys) if _is_private(key)]
    if private:
        report.warn(
            rules.PRIVATE_KEYS,
            path,
            f"key {', '.join(private)} is a private or secret key",
            "Publish only the public part: kty, kid, n and e, or crv, x and y.",
        )


def _is_private(key: dict[str, object]) -> bool:
    return "d" in key or key.get("kty") == "oct"


def _check_timeout(text: str, path: FieldPath, report: Report) -> None:
    try:
        nanoseconds = duration_nanoseconds(text)
    except ValueError:
        nanoseconds = 0
    if nanoseconds < _MILLISECOND or nanoseconds % _MILLISECOND:
        report.error(
            rules.BAD_JWT_TIMEOUT,
            path,
            f"{text} must be a valid duration greater than 1ms, in whole milliseconds",
        )
