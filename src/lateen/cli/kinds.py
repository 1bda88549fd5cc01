"""Kinds as people name them on the command line: ``po``, ``vs``, ``deploy/reviews-v1``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from lateen.api.kinds import KINDS, KindInfo, kinds_by_name
from lateen.cli.errors import USAGE, CommandError
from lateen.source.client import path_for


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind with the URL paths of its objects."""

    info: KindInfo

    @property
    def kind(self) -> str:
        """For instance ``VirtualService``."""
        return self.info.kind

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """URL path of one object or of the list; ``namespace`` empty lists all namespaces."""
        place = namespace if self.info.namespaced else ""
        return path_for(self.info.api_version, self.info.plural, place, name, subresource)


@dataclass(frozen=True, slots=True)
class Reference:
    """A kind and a name."""

    kind: Kind
    name: str

    @classmethod
    def parse(cls, text: str, default_kind: str = "") -> Reference:
        """``KIND/NAME``, or ``NAME`` with a default kind. Raises `CommandError`."""
        kind, slash, name = text.partition("/")
        if not slash:
            if not default_kind:
                raise CommandError(f"{text!r} names no kind", "write KIND/NAME", USAGE)
            kind, name = default_kind, text
        if not name:
            raise CommandError(f"{text!r} names no object", "write KIND/NAME", USAGE)
        return cls(resolve(kind), name)


def resolve(name: str) -> Kind:
    """The kind that ``name`` means; the core and Istio's own win over others of the same name."""
    found = kinds_by_name(name.rstrip("."))
    if not found:
        words = {word for info in KINDS.values() for word in (info.plural, *info.short_names)}
        near = difflib.get_close_matches(name.lower(), sorted(words), n=1)
        hint = f"did you mean {near[0]}?" if near else "`lateen get --help` lists the kinds"
        raise CommandError(f"there is no kind {name!r}", hint, USAGE)
    rank = {"": 0, "apps": 0, "networking.istio.io": 1}
    return Kind(min(found, key=lambda info: rank.get(info.group, 2)))
