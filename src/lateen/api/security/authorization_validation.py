"""What is wrong with an AuthorizationPolicy by itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from lateen.api.findings import FieldPath
from lateen.api.report import Report
from lateen.api.security import rules
from lateen.api.security.attachment import DRY_RUN_ANNOTATION, validate_attachment
from lateen.api.security.authorization_policy import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    Operation,
    Rule,
    Source,
)
from lateen.api.security.path_template import path_template_problem

_GO_BOOLEANS = frozenset(
    {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"}
)
_DECIMAL = re.compile(r"\d+")
_ZONE = re.compile(r"%.*")

_IP_FIELDS = ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks")
_SERVICE_ACCOUNT_FIELDS = ("service_accounts", "not_service_accounts")
_TRUST_DOMAIN_FIELDS = ("trust_domains", "not_trust_domains")
_IDENTITY_FIELDS = ("principals", "not_principals", "namespaces", "not_namespaces")
_TCP_FIELDS = (
    *_IDENTITY_FIELDS,
    *_IP_FIELDS,
    *_SERVICE_ACCOUNT_FIELDS,
    *_TRUST_DOMAIN_FIELDS,
)
_NOT_IN_CUSTOM = (
    *_IDENTITY_FIELDS,
    *_SERVICE_ACCOUNT_FIELDS,
    *_TRUST_DOMAIN_FIELDS,
    "request_principals",
    "not_request_principals",
)
_NOT_IN_CUSTOM_KEYS = (
    "source.namespace",
    "source.serviceAccount",
    "source.trustDomain",
    "source.principal",
)
_PLAIN_KEYS = frozenset(
    {
        "source.namespace",
        "source.principal",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "connection.sni",
    }
)
_IP_KEYS = frozenset({"source.ip", "remote.ip", "destination.ip"})
_MAP_KEYS = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
_RETIRED_KEYS = {
    "destination.namespace": "the policy's own namespace says it",
    "destination.labels": "the policy's selector says it",
    "destination.name": "the policy's selector says it",
    "destination.user": "the policy's selector says it",
}


def validate_authorization_policy(policy: AuthorizationPolicy, report: Report) -> None:
    """Check attachment, action, rules and conditions; warn of a DENY that reaches all of TCP."""
    spec = policy.spec
    _check_dry_run(policy, report)
    validate_attachment(spec, report)
    _check_action(spec, report)
    for index, rule in enumerate(spec.rules):
        path = ("spec", "rules", index)
        _check_rule(rule, path, report)
        if spec.action == "CUSTOM":
            _check_custom(rule, path, report)
        if spec.action == "DENY" and _matches_all_tcp(rule):
            report.warn(
                rules.DENY_COVERS_TCP,
                path,
                "the rule has only HTTP attributes, so it denies all traffic on TCP ports",
                "Add the HTTP ports to to.operation.ports.",
            )


def _check_dry_run(policy: AuthorizationPolicy, report: Report) -> None:
    value = policy.metadata.annotations.get(DRY_RUN_ANNOTATION)
    if value is None:
        return
    path = ("metadata", "annotations", DRY_RUN_ANNOTATION)
    if policy.spec.action not in ("ALLOW", "DENY"):
        report.error(
            rules.DRY_RUN_UNSUPPORTED,
            path,
            f"action {policy.spec.action} has no dry run",
            "Only ALLOW and DENY policies can be tried out; remove the annotation.",
        )
    elif value not in _GO_BOOLEANS:
        report.error(rules.DRY_RUN_UNSUPPORTED, path, f'"{value}" is neither "true" nor "false"')


def _check_action(spec: AuthorizationPolicySpec, report: Report) -> None:
    if spec.action in ("CUSTOM", "DENY") and not spec.rules:
        report.error(
            rules.RULES_MISSING,
            ("spec", "rules"),
            f"a {spec.action} policy without rules never matches",
            "For every request write one empty rule: rules: [{}].",
        )
    if spec.action == "CUSTOM":
        if spec.rules and (spec.provider is None or not spec.provider.name):
            report.error(
                rules.PROVIDER_MISMATCH,
                ("spec", "provider", "name"),
                "`provider.name` must not be empty with action CUSTOM",
                "Name one of the mesh configuration's extensionProviders.",
            )
    elif spec.provider is not None:
        report.error(
            rules.PROVIDER_MISMATCH,
            ("spec", "provider"),
            f"a provider is used with action CUSTOM only, the action is {spec.action}",
        )


def _check_rule(rule: Rule, path: FieldPath, report: Report) -> None:
    for name, given in (("from", rule.from_), ("to", rule.to)):
        if given is not None and not given:
            report.error(
                rules.EMPTY_MATCH,
                (*path, name),
                f"`{name}` must not be empty",
                f"Leave `{name}` out to match everything.",
            )
    for index, alternative in enumerate(rule.from_ or ()):
        where = (*path, "from", index, "source")
        if alternative.source is None:
            report.error(rules.EMPTY_MATCH, where, "`from.source` must be set")
        else:
            _check_source(alternative.source, where, report)
    for index, option in enumerate(rule.to or ()):
        where = (*path, "to", index, "operation")
        if option.operation is None:
            report.error(rules.EMPTY_MATCH, where, "`to.operation` must be set")
        else:
            _check_operation(option.operation, where, report)
    for index, condition in enumerate(rule.when):
        _check_condition(condition, (*path, "when", index), report)


def _check_source(source: Source, path: FieldPath, report: Report) -> None:
    if not _given(source, source.__struct_fields__):
        report.error(rules.EMPTY_MATCH, path, "`from.source` must not be empty")
    identities = _given(source, _IDENTITY_FIELDS)
    accounts = _given(source, _SERVICE_ACCOUNT_FIELDS)
    if identities and accounts:
        report.error(
            rules.SERVICE_ACCOUNTS_EXCLUSIVE,
            (*path, _encoded(accounts[0])),
            "Cannot set serviceAccounts with namespaces or principals in one source",
            "Write NAMESPACE/NAME in serviceAccounts, or use a second entry of from.",
        )
    for name in source.__struct_fields__:
        values = getattr(source, name)
        where = (*path, _encoded(name))
        if name in _SERVICE_ACCOUNT_FIELDS:
            _check_service_accounts(values, where, report)
        elif name in _TRUST_DOMAIN_FIELDS:
            _check_trust_domains(values, where, report)
        elif name in _IP_FIELDS:
            _check_addresses(values, where, report)
        else:
            _check_no_empty(values, where, report)


def _check_operation(operation: Operation, path: FieldPath, report: Report) -> None:
    if not _given(operation, operation.__struct_fields__):
        report.error(rules.EMPTY_MATCH, path, "`to.operation` must not be empty")
    for name in operation.__struct_fields__:
        values = getattr(operation, name)
        where = (*path, _encoded(name))
        if name in ("ports", "not_ports"):
            _check_ports(values, where, report)
            continue
        _check_no_empty(values, where, report)
        if name in ("paths", "not_paths"):
            for index, value in enumerate(values):
                problem = path_template_problem(value)
                if problem:
                    report.error(rules.BAD_PATH_TEMPLATE, (*where, index), problem)


def _check_condition(condition: Condition, path: FieldPath, report: Report) -> None:
    key = condition.key
    if not key:
        report.error(rules.BAD_CONDITION, (*path, "key"), "`key` must not be empty")
        return
    if not condition.values and not condition.not_values:
        report.error(
            rules.BAD_CONDITION,
            path,
            f"at least one of `values` or `notValues` must be set for {key}",
            'Use values: ["*"] to ask that the attribute is present.',
        )
        return
    problem, hint = _key_problem(key)
    if problem:
        report.error(rules.BAD_CONDITION, (*path, "key"), problem, hint)
        return
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        where = (*path, name)
        if key in _IP_KEYS:
            _check_addresses(values, where, report)
        elif key == "destination.port":
            _check_ports(values, where, report)
        elif key == "source.serviceAccount":
            _check_service_accounts(values, where, report)
        elif key == "source.trustDomain":
            _check_trust_domains(values, where, report)
        else:
            _check_no_empty(values, where, report)


def _key_problem(key: str) -> tuple[str, str]:
    if key in _PLAIN_KEYS or key in _IP_KEYS:
        return "", ""
    if key in ("destination.port", "source.serviceAccount", "source.trustDomain"):
        return "", ""
    for name, instead in _RETIRED_KEYS.items():
        if key == name or (name == "destination.labels" and key.startswith(name)):
            return f"{key} is no attribute any more", f"Leave it out: {instead}."
    for prefix in _MAP_KEYS:
        if key.startswith(prefix):
            opening = key.find("[")
            if key.endswith("]") and 0 < opening < len(key) - 2:
                return "", ""
            return f"{key} needs a name in brackets", f"Write {prefix.rstrip('.')}[NAME]."
    return f"unknown attribute {key}", "See AuthorizationPolicy conditions for the known ones."


def _check_custom(rule: Rule, path: FieldPath, report: Report) -> None:
    for index, alternative in enumerate(rule.from_ or ()):
        for name in _given(alternative.source, _NOT_IN_CUSTOM):
            report.error(
                rules.NOT_IN_CUSTOM,
                (*path, "from", index, "source", _encoded(name)),
                f"{_encoded(name)} cannot be used with action CUSTOM",
                "Test it in a DENY policy beside this one, or in the external authorizer.",
            )
    for index, condition in enumerate(rule.when):
        key = condition.key
        if key in _NOT_IN_CUSTOM_KEYS or key.startswith("request.auth."):
            report.error(
                rules.NOT_IN_CUSTOM,
                (*path, "when", index, "key"),
                f"{key} cannot be used with action CUSTOM",
            )


def _matches_all_tcp(rule: Rule) -> bool:
    sources = [option.source for option in rule.from_ or () if option.source is not None]
    operations = [option.operation for option in rule.to or () if option.operation is not None]
    if operations:
        return not any(operation.ports or operation.not_ports for operation in operations)
    return bool(sources) and not any(_given(source, _TCP_FIELDS) for source in sources)


def _check_addresses(values: Sequence[str], path: FieldPath, report: Report) -> None:
    for index, value in enumerate(values):
        if not _is_address(value):
            report.error(
                rules.BAD_ADDRESS,
                (*path, index),
                f'"{value}" is neither an IP address nor a CIDR range',
                "Write for instance 10.1.2.3, 10.1.0.0/16 or fd00::/8.",
            )


def _is_address(value: str) -> bool:
    try:
        if "/" in value:
            address, _, length = value.partition("/")
            if not _DECIMAL.fullmatch(length) or (len(length) > 1 and length[0] == "0"):
                return False
            ipaddress.ip_network((address, int(length)), strict=False)
            return "%" not in address
        ipaddress.ip_address(_ZONE.sub("", value) if ":" in value else value)
    except ValueError:
        return False
    return not value.endswith("%")


def _check_ports(values: Sequence[str], path: FieldPath, report: Report) -> None:
    for index, value in enumerate(values):
        if not (value.isascii() and _DECIMAL.fullmatch(value)) or int(value) > 65535:
            report.error(
                rules.BAD_PORT, (*path, index), f'"{value}" is not a port number up to 65535'
            )


def _check_service_accounts(values: Sequence[str], path: FieldPath, report: Report) -> None:
    for index, value in enumerate(values):
        namespace, slash, name = value.rpartition("/")
        if not name or (slash and not namespace) or "/" in namespace or "*" in value:
            report.error(
                rules.BAD_SERVICE_ACCOUNT,
                (*path, index),
                f'"{value}" is not a service account',
                "Write NAME or NAMESPACE/NAME; for patterns use principals.",
            )


def _check_trust_domains(values: Sequence[str], path: FieldPath, report: Report) -> None:
    for index, value in enumerate(values):
        if not value or "/" in value:
            report.error(rules.BAD_TRUST_DOMAIN, (*path, index), f'"{value}" is not a trust domain')


def _check_no_empty(values: Sequence[str], path: FieldPath, report: Report) -> None:
    for index, value in enumerate(values):
        if not value:
            report.error(
                rules.EMPTY_MATCH,
                (*path, index),
                f"an empty value is not allowed in {path[-1]}",
                'Use "*" for any value that is present.',
            )


def _given(message: Source | Operation | None, names: Iterable[str]) -> list[str]:
    return [name for name in names if message is not None and getattr(message, name)]


def _encoded(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)
