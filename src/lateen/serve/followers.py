"""Further processes that serve the same, as the control plane sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from lateen.model.change import Change
from lateen.serve.evidence import Evidence, Question
from lateen.serve.worker import Worker


class Followers(Protocol):
    """Further processes, as the control plane sees them (see `lateen.serve.workers.Workers`)."""

    def changed(self, changes: Iterable[Change], version: int, *, immediate: bool) -> None:
        """Changes were applied to the snapshot, which is now ``version``."""

    def everything(self, version: int) -> None:
        """All configuration is made anew under ``version``."""

    def withheld(self, items: Iterable[tuple[str, str, str]]) -> None:
        """These versions (type URL, name, version) go to no proxy."""

    def serving(self) -> Sequence[Worker]:
        """Those that may have proxies."""

    async def statuses(self) -> list[Mapping[str, Any]]:
        """``proxies``, ``scopes`` and ``pid`` of each process."""

    async def config(self, name: str, type_url: str) -> dict[str, Any] | None:
        """The configuration of a proxy that one of them has."""

    async def debug(self, name: str, query: Mapping[str, str]) -> list[tuple[bytes, str]]:
        """Body and content type of each process' answer."""

    async def metrics(self, kind: str = "") -> list[Any]:
        """Each process' metrics (`lateen.serve.merged.Export`)."""

    async def totals(self) -> list[Mapping[str, float]]:
        """Each process' totals of work done."""

    async def evidence(self, question: Question) -> list[Evidence]:
        """What each process' proxies say of refused resources."""
