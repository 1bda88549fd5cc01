"""An image's configuration as engines tell it, and what Kubernetes makes of it with a manifest."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_IDENTIFIER = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_MAX_WORDS = 4096


class InvalidConfig(ValueError):
    """What an engine says of an image cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The part of the OCI image configuration that says how a container runs."""

    id: str
    """64 hexadecimal digits."""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    architecture: str = ""
    os: str = ""
    local: bool = False
    """Built on this machine: no registry knows it."""

    def to_json(self) -> dict[str, object]:
        """For a message between processes."""
        return asdict(self)


def from_inspect(data: Any) -> ImageConfig:  # noqa: ANN401 - an engine's JSON
    """One element of what ``ENGINE image inspect`` prints. Raises `InvalidConfig`."""
    if not isinstance(data, dict):
        raise InvalidConfig("the engine's answer is not an object")
    found = _IDENTIFIER.fullmatch(str(data.get("Id")))
    config = data.get("Config") or {}
    if found is None or not isinstance(config, dict):
        raise InvalidConfig("the engine's answer has no image id or no configuration")
    env = [entry.partition("=") for entry in _words(config, "Env")]
    return ImageConfig(
        id=found[1],
        entrypoint=_words(config, "Entrypoint"),
        cmd=_words(config, "Cmd"),
        env=tuple((name, value) for name, equals, value in env if name and equals),
        working_dir=_text(config, "WorkingDir"),
        user=_text(config, "User"),
        stop_signal=_text(config, "StopSignal"),
        architecture=_text(data, "Architecture"),
        os=_text(data, "Os"),
        local=not data.get("RepoDigests"),
    )


def from_message(data: Mapping[str, Any]) -> ImageConfig:
    """The `ImageConfig` that `ImageConfig.to_json` wrote."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    values["env"] = tuple((str(name), str(value)) for name, value in data["env"])
    return ImageConfig(**values)


def merge_command(
    config: ImageConfig, command: Sequence[str], args: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that come from the image, and those from the manifest that follow them.

    ``command`` replaces the entrypoint and, with it, the image's arguments; ``args`` replaces the
    arguments only (Kubernetes, "Define a Command and Arguments for a Container"). References like
    ``$(NAME)`` are Kubernetes' and so only in the second part.
    """
    if command:
        return (), (*command, *args)
    if args:
        return config.entrypoint, tuple(args)
    return (*config.entrypoint, *config.cmd), ()


def stop_signal(text: str) -> int:
    """The number of an image's ``StopSignal`` (``SIGQUIT``, ``QUIT``, ``3``); SIGTERM for none and
    for what this machine does not know."""
    word = text.strip().upper()
    if word.isdigit():
        return int(word) if int(word) in {int(s) for s in signal.valid_signals()} else 15
    offset = re.fullmatch(r"(?:SIG)?(RTMIN|RTMAX)(?:([+-]\d{1,2}))?", word)
    if offset:
        number = int(getattr(signal, f"SIG{offset[1]}")) + int(offset[2] or 0)
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 15
    named = getattr(signal, f"SIG{word.removeprefix('SIG')}", None)
    return int(named) if isinstance(named, signal.Signals) else 15


def _words(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = config.get(key) or []
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or len(value) > _MAX_WORDS:
        raise InvalidConfig(f"{key} is not a list of at most {_MAX_WORDS} words")
    words = tuple(str(word) for word in value)
    if any("\0" in word for word in words):
        raise InvalidConfig(f"{key} has a null character")
    return words


def _text(config: Mapping[str, object], key: str) -> str:
    value = config.get(key)
    text = "" if value is None else str(value)
    if "\0" in text:
        raise InvalidConfig(f"{key} has a null character")
    return text
