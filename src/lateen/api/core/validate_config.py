"""ConfigMap and Secret."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from lateen.api.core.config import ConfigMap, Secret
from lateen.api.core.rules import BAD_DATA
from lateen.api.report import Report

_KEY = re.compile(r"(?!\.{1,2}$)[-._a-zA-Z0-9]{1,253}")
_MAX_BYTES = 1024 * 1024
_REQUIRED_KEYS = {"kubernetes.io/tls": ("tls.crt", "tls.key")}


def validate_config_map(obj: ConfigMap, report: Report) -> None:
    """Keys are file names, binary data is base64, everything fits in 1 MiB."""
    _keys(obj.data, "data", report)
    _keys(obj.binary_data, "binaryData", report)
    _base64(obj.binary_data, "binaryData", report)
    for key in obj.binary_data.keys() & obj.data.keys():
        report.error(BAD_DATA, ("binaryData", key), f'key "{key}" is in data too')
    _size((obj.data, obj.binary_data), report)
    if obj.metadata.name == "istio" and "mesh" in obj.data:
        # Here, because the mesh configuration is built from networking's messages.
        from lateen.api.meshconfig import mesh_config_in

        report.findings += mesh_config_in(report.resource)[2]


def validate_secret(obj: Secret, report: Report) -> None:
    """As a ConfigMap; a TLS secret needs certificate and key. Values are never shown."""
    _keys(obj.data, "data", report)
    _keys(obj.string_data, "stringData", report)
    _base64(obj.data, "data", report)
    present = obj.data.keys() | obj.string_data.keys()
    for key in _REQUIRED_KEYS.get(obj.type, ()):
        if key not in present:
            report.error(BAD_DATA, ("data",), f'a secret of type {obj.type} needs the key "{key}"')
    _size((obj.data, obj.string_data), report)


def _keys(data: Mapping[str, str], where: str, report: Report) -> None:
    for key in data:
        if not _KEY.fullmatch(key):
            message = f'key "{key}" must be letters, digits, "-", "_" or "."'
            report.error(BAD_DATA, (where, key), message)


def _base64(data: Mapping[str, str], where: str, report: Report) -> None:
    for key, value in data.items():
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            hint = "Encode it (`base64 -w0`), or use stringData in a Secret."
            report.error(BAD_DATA, (where, key), f'the value of "{key}" is not base64', hint)


def _size(parts: tuple[Mapping[str, str], ...], report: Report) -> None:
    total = sum(len(value) for part in parts for value in part.values())
    if total > _MAX_BYTES * 4 // 3:
        report.error(BAD_DATA, (), "more than 1 MiB of data")
