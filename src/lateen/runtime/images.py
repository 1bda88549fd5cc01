"""Images as commands: what runs on this machine when a manifest names an image."""

from __future__ import annotations

import difflib
import fnmatch
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lateen.runtime.engine.config import merge_command
from lateen.runtime.image_puller import EngineImage
from lateen.runtime.program_files import Located, locate
from lateen.workloads.images import builtin_command


class ImageUnknown(Exception):
    """No command is known for an image; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class ImageCommand:
    """What a container runs, and the image's own environment."""

    argv: tuple[str, ...]
    """``$(NAME)`` in these words refers to the container's environment."""
    env: Mapping[str, str] = field(default_factory=dict)
    leading: tuple[str, ...] = ()
    """Words before ``argv``, taken as they are: they are the image's, not the manifest's."""
    cwd: str = ""
    """Where it runs unless the manifest says it; empty: nowhere special."""
    image: EngineImage | None = None
    """The image whose files are the container's root; None: the machine's programs run."""


@dataclass(frozen=True, slots=True)
class ImageCatalog:
    """Commands the user gave for images (patterns), before the built-in ones."""

    given: tuple[tuple[str, Located], ...] = ()

    @classmethod
    def parse(cls, options: list[str], mapping_file: str = "", folder: str = "/") -> ImageCatalog:
        """``NAME=COMMAND`` options and a file of such lines (``#`` starts a comment).

        Relative names in a command refer to ``folder``, in the file's lines to the file's folder.
        Raises `ValueError` for a line that is neither, `OSError` for a file that cannot be read.
        """
        lines = [(line, folder) for line in options]
        if mapping_file:
            text = Path(mapping_file).read_text(encoding="utf-8")
            place = str(Path(mapping_file).absolute().parent)
            lines += [(line.strip(), place) for line in text.splitlines()]
        given = []
        for line, place in lines:
            if not line or line.startswith("#"):
                continue
            name, equals, command = line.partition("=")
            if not equals or not name.strip() or not command.strip():
                raise ValueError(f"{line!r} is not NAME=COMMAND")
            try:
                words = tuple(shlex.split(command))
            except ValueError as error:
                raise ValueError(f"{line!r}: {error}") from None
            given.append((name.strip(), locate(words, place)))
        return cls(tuple(given))

    def mapped(self, image: str, container: Mapping[str, object]) -> ImageCommand | None:
        """What a container with this image runs by an option or as one of the built-in ones.

        ``command`` and ``args`` of the manifest replace the image's entrypoint and arguments by
        Kubernetes' rules.
        """
        command, args = _texts(container.get("command")), _texts(container.get("args"))
        names = image_names(image)
        for pattern, found in self.given:
            if _matches(pattern, names):
                return ImageCommand((*(command or found.argv), *args), cwd=found.cwd)
        builtin = builtin_command(image)
        if builtin is not None:
            return ImageCommand(builtin.argv(command or None, args or None), builtin.env)
        return None

    @property
    def exposed(self) -> tuple[str, ...]:
        """Files and folders of this machine that pods must see for the commands given."""
        return tuple(dict.fromkeys(path for _, found in self.given for path in found.exposed))

    @property
    def missing(self) -> list[str]:
        """What is wrong with commands whose program does not exist."""
        return [f"--image {name}: {f.missing}" for name, f in self.given if f.missing]

    def near(self, image: str) -> tuple[str, ...]:
        """Names of mappings that do not match ``image`` and are like it: the same repository with
        another registry, path or tag, or a name with a slip; at most three."""
        wanted = repository(image).lower()
        last = wanted.rpartition("/")[2]
        found = []
        for pattern, _ in self.given:
            name = repository(pattern).lower()
            likeness = difflib.SequenceMatcher(None, name, wanted).ratio()
            if name.rpartition("/")[2] == last or likeness >= _LIKE:
                found.append((likeness, pattern))
        found.sort(key=lambda entry: -entry[0])
        return tuple(pattern for _, pattern in found[:3])


_LIKE = 0.8
"""Likeness (0 to 1, `difflib.SequenceMatcher.ratio`) from which on a name is taken for a slip."""


def engine_command(image: EngineImage, container: Mapping[str, object]) -> ImageCommand:
    """What a container runs whose image a container engine has provided. Raises `ImageUnknown`
    when neither image nor manifest name a command."""
    command, args = _texts(container.get("command")), _texts(container.get("args"))
    leading, argv = merge_command(image.config, command, args)
    if not leading and not argv:
        raise ImageUnknown(
            f"image {container.get('image')!r} has no command; give one in the manifest"
        )
    return ImageCommand(argv, dict(image.config.env), leading, image=image)


def machine_command(
    image: str, container: Mapping[str, object], why: str, near: Sequence[str] = ()
) -> ImageCommand:
    """What a container runs whose image is not known: the manifest's own ``command``, as a program
    of this machine.

    Raises `ImageUnknown` when it has none. Its first line says what is wrong, its second one what
    to do; ``why`` is what became of a container engine, ``near`` are mappings like this image.
    """
    command, args = _texts(container.get("command")), _texts(container.get("args"))
    if command:
        return ImageCommand((*command, *args))
    like = f" (no match: --image {', '.join(near)})" if near else ""
    raise ImageUnknown(
        f"no command is known for image {image!r}{like}\n"
        f"map it with --image '{without_tag(image)}=COMMAND' or --image-file, give a command in "
        f"the manifest, or let a container engine bring the image: {why}"
    )


def without_tag(image: str) -> str:
    """An image's name without tag and digest: ``a.b:5000/c/d:1@sha256:0`` → ``a.b:5000/c/d``."""
    head, slash, tail = image.partition("@")[0].rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"


def repository(image: str) -> str:
    """An image's name without registry, tag and digest: ``a.b/c/d:1@sha`` → ``c/d``."""
    name = without_tag(image)
    first, slash, rest = name.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == "localhost")
    return rest if has_registry else name


def image_names(image: str) -> frozenset[str]:
    """Every name that a mapping may call an image by: with or without digest, tag, registry and
    path, and docker.io's short forms (``nginx`` is ``docker.io/library/nginx``)."""
    tagged = image.partition("@")[0]
    names = {image}
    for name in (image, tagged, without_tag(image)):
        bare = name[len(without_tag(image)) - len(repository(image)) :]
        names |= {name, bare, bare.rpartition("/")[2]} if "@" not in name else {name, bare}
        if bare == name or name.startswith("docker.io/"):
            short = bare.removeprefix("library/")
            names |= {short, f"docker.io/{short}"}
            if "/" not in short.partition("@")[0]:
                names |= {f"library/{short}", f"docker.io/library/{short}"}
    return frozenset(names)


def _matches(pattern: str, names: Collection[str]) -> bool:
    return pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
