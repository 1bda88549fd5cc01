"""Volumes of a pod: permission bits."""

from __future__ import annotations

from collections.abc import Iterator

from lateen.api.core.rules import BAD_FILE_MODE, ODD_FILE_MODE
from lateen.api.core.volume import (
    ConfigMapVolume,
    DownwardAPIVolume,
    ProjectedVolume,
    SecretProjection,
    SecretVolume,
    Volume,
)
from lateen.api.findings import FieldPath
from lateen.api.report import Report

_MOST = 0o777
_MEANT_AS_OCTAL = frozenset((400, 440, 444, 500))
"""Usual modes that are also decimal numbers in range: 400 is 0620."""

_Source = ConfigMapVolume | SecretVolume | SecretProjection | DownwardAPIVolume


def validate_volume(volume: Volume, path: FieldPath, report: Report) -> None:
    """Check ``defaultMode`` and ``mode``: 0 to 0777 (``core/v1`` KeyToPath)."""
    for mode, here in _modes(volume, path):
        _check(mode, here, report)


def _check(mode: int, path: FieldPath, report: Report) -> None:
    octal = str(mode).lstrip("-")
    hint = "Permission bits are 0 to 0777."
    if octal.isdigit() and not set(octal) & set("89"):
        hint = f"Write 0{octal} (in JSON {int(octal, 8)}): without a leading zero it is decimal."
    if not 0 <= mode <= _MOST:
        message = f"{mode} is not a file mode: it must be between 0 and 0777 (decimal 511)"
        report.error(BAD_FILE_MODE, path, message, hint)
    elif mode in _MEANT_AS_OCTAL:
        report.warn(ODD_FILE_MODE, path, f"decimal {mode} is mode {mode:04o}", hint)


def _modes(volume: Volume, path: FieldPath) -> Iterator[tuple[int, FieldPath]]:
    for name, source in (
        ("configMap", volume.config_map),
        ("secret", volume.secret),
        ("downwardAPI", volume.downward_api),
    ):
        if source is not None:
            yield from _modes_of(source, (*path, name))
    if volume.projected is not None:
        yield from _projected(volume.projected, (*path, "projected"))


def _projected(source: ProjectedVolume, path: FieldPath) -> Iterator[tuple[int, FieldPath]]:
    if source.default_mode is not None:
        yield source.default_mode, (*path, "defaultMode")
    for index, item in enumerate(source.sources):
        for name, part in (
            ("configMap", item.config_map),
            ("secret", item.secret),
            ("downwardAPI", item.downward_api),
        ):
            if part is not None:
                yield from _modes_of(part, (*path, "sources", index, name))


def _modes_of(source: _Source, path: FieldPath) -> Iterator[tuple[int, FieldPath]]:
    default = getattr(source, "default_mode", None)
    if default is not None:
        yield default, (*path, "defaultMode")
    for index, item in enumerate(source.items):
        mode: int | None = getattr(item, "mode", None)
        if mode is not None:
            yield mode, (*path, "items", index, "mode")
