"""What is wrong with a WasmPlugin or TrafficExtension by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lateen.api.extensions import rules
from lateen.api.extensions.extension import (
    TrafficExtension,
    TrafficSelector,
    VmConfig,
    WasmConfig,
    WasmPlugin,
    WasmPluginSpec,
)
from lateen.api.findings import FieldPath
from lateen.api.report import Report
from lateen.api.security.attachment import validate_attachment

_SCHEMES = ("oci", "http", "https", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AUTHORITY = re.compile(r"([^\s/?#@]*@)?(\[[0-9A-Fa-f:.%]+\]|[^\s/?#\[\]:%\\^`{|}<>\"]+)(:\d*)?")
_PATH = re.compile(r"(?:[^%\x00-\x1f\x7f]|%[0-9A-Fa-f]{2})*")
_DIGEST = re.compile(r"@sha256:([0-9a-f]+)$")


def validate_wasm_plugin(plugin: WasmPlugin, report: Report) -> None:
    """Check attachment, the module, its VM and the traffic it is for."""
    spec = plugin.spec
    validate_attachment(spec, report)
    _check_module(spec, ("spec",), report)
    _check_match(spec.match, ("spec", "match"), report)


def validate_traffic_extension(extension: TrafficExtension, report: Report) -> None:
    """Check attachment, that there is one filter, and that filter."""
    spec = extension.spec
    validate_attachment(spec, report)
    if (spec.wasm is None) == (spec.lua is None):
        found = "none" if spec.wasm is None else "both"
        report.error(
            rules.ONE_FILTER, ("spec",), f"exactly one of wasm or lua must be set, found {found}"
        )
    if spec.wasm is not None:
        _check_module(spec.wasm, ("spec", "wasm"), report)
    if spec.lua is not None and not spec.lua.inline_code.strip():
        report.error(
            rules.NO_LUA_CODE,
            ("spec", "lua", "inlineCode"),
            "lua.inlineCode cannot be empty",
            "Write: function envoy_on_request(handle) ... end",
        )
    _check_match(spec.match, ("spec", "match"), report)


def module_url_problem(url: str) -> str:
    """Why ``url`` names no Wasm module, or an empty string. No scheme means an OCI image."""
    scheme = _SCHEME.match(url)
    if scheme is not None:
        name = scheme[1].lower()
        if name not in _SCHEMES:
            return f"url must have schema one of {', '.join(_SCHEMES)}, not {scheme[1]}"
        rest = url[scheme.end() :]
    else:
        name, rest = "oci", url
    authority, _, path = rest.partition("/")
    if name != "file" and not _AUTHORITY.fullmatch(authority.split("@sha256")[0]):
        return f'"{url}" names no host'
    if any(character.isspace() for character in rest) or not _PATH.fullmatch(path):
        return f'"{url}" has characters that a URL cannot have'
    return ""


def _check_module(module: WasmConfig | WasmPluginSpec, path: FieldPath, report: Report) -> None:
    problem = module_url_problem(module.url)
    if problem:
        report.error(
            rules.BAD_MODULE_URL,
            (*path, "url"),
            problem,
            "For instance oci://registry.example.com/team/filter:v1 or file:///opt/filter.wasm.",
        )
    digest = _DIGEST.search(module.url)
    if digest is not None and module.sha256 and digest[1] != module.sha256:
        report.error(
            rules.CHECKSUM_MISMATCH,
            (*path, "sha256"),
            "sha256 differs from the digest in url",
            "Keep one of the two.",
        )
    _check_vm(module.vm_config, (*path, "vmConfig", "env"), report)


def _check_vm(config: VmConfig | None, path: FieldPath, report: Report) -> None:
    seen: set[str] = set()
    for index, variable in enumerate(config.env if config is not None else ()):
        if variable.name in seen:
            report.error(
                rules.DUPLICATE_VARIABLE,
                (*path, index, "name"),
                f"duplicate env {variable.name}",
            )
        seen.add(variable.name)
        if variable.value and variable.value_from != "INLINE":
            report.error(
                rules.HOST_VARIABLE_WITH_VALUE,
                (*path, index, "value"),
                f"{variable.name}: value may only be set when valueFrom is INLINE",
            )


def _check_match(selectors: Sequence[TrafficSelector], path: FieldPath, report: Report) -> None:
    for index, selector in enumerate(selectors):
        seen: set[int] = set()
        for position, port in enumerate(selector.ports):
            where = (*path, index, "ports", position, "number")
            if not 1 <= port.number <= 65535:
                report.error(
                    rules.BAD_MATCH_PORT, where, f"port {port.number} is out of range 1-65535"
                )
            elif port.number in seen:
                report.error(rules.BAD_MATCH_PORT, where, f"port {port.number} is named twice")
            seen.add(port.number)
