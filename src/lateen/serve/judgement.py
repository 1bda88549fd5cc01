"""Refusals that are being judged: what one proxy refuses is held back from all only when no other
proxy vouches for it (see `lateen.serve.evidence`)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lateen.api.resource import Resource
from lateen.serve.evidence import Evidence, Question, Verdict, verdict
from lateen.serve.metrics import short_name
from lateen.serve.push_values import Rejected
from lateen.serve.quarantine import blamed, refused_resources

PATIENCE = 5.0
"""Seconds for which other proxies that were sent the same are waited for."""
_POLL = 0.1
_MAX_CASES = 1000
_MAX_ALONE = 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefusedAlone:
    """What a proxy refuses that others accept."""

    proxy: str
    """``NAME.NAMESPACE``."""
    type_url: str
    names: tuple[str, ...]
    words: str
    suspect: Resource | None
    """The object that it seems to be about."""
    since: float = field(default_factory=time.time)


class Judgement:
    """Cases under way, and what single proxies refuse."""

    def __init__(
        self,
        ask: Callable[[Question], Awaitable[Evidence]],
        contain: Callable[[Rejected], None],
        counted: Callable[[Verdict], None],
    ) -> None:
        """``ask`` asks all connected proxies' sessions; ``contain`` keeps what was refused from
        all; ``counted`` is told each verdict."""
        self.alone: dict[tuple[str, str, tuple[str, ...]], RefusedAlone] = {}
        """By node id, type and names. The newest thousand."""
        self._ask = ask
        self._contain = contain
        self._counted = counted
        self._cases: dict[tuple[str, frozenset[str]], asyncio.Task[None]] = {}

    def open(self, rejected: Rejected) -> None:
        """Judge a refusal, unless the same is being judged already."""
        resources = refused_resources(rejected)
        case = (rejected.type_url, frozenset(item.version for item in resources))
        if case in self._cases or len(self._cases) >= _MAX_CASES:
            return
        task = asyncio.ensure_future(self._judge(rejected))
        self._cases[case] = task

        def done(finished: asyncio.Task[None]) -> None:
            self._cases.pop(case, None)
            if not finished.cancelled() and (error := finished.exception()) is not None:
                _log.error("judging a rejection failed", exc_info=error)

        task.add_done_callback(done)

    async def _judge(self, rejected: Rejected) -> None:
        resources = refused_resources(rejected)
        suspect = blamed(rejected)
        question = Question(
            rejected.type_url,
            tuple((item.name, item.version) for item in resources),
            rejected.proxy.id,
            rejected.snapshot.version,
            _parts(suspect) if suspect is not None else None,
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            found = await self._ask(question)
            result = verdict(found, patient=time.monotonic() < deadline)
            if result is not Verdict.OPEN:
                break
            await asyncio.sleep(_POLL)
        self._counted(result)
        if result is Verdict.ALL:
            self._contain(rejected)
        else:
            self._note(rejected, suspect, found)

    def _note(self, rejected: Rejected, suspect: Resource | None, found: Evidence) -> None:
        names = tuple(item.name for item in refused_resources(rejected))[:20]
        proxy = f"{rejected.proxy.name}.{rejected.proxy.namespace}"
        key = (rejected.proxy.id, rejected.type_url, names)
        self.alone.pop(key, None)
        self.alone[key] = RefusedAlone(proxy, rejected.type_url, names, rejected.words, suspect)
        while len(self.alone) > _MAX_ALONE:
            del self.alone[next(iter(self.alone))]
        _log.warning(
            "%s alone refuses %s, which %d other identities accept; it keeps what it has, and "
            "others are not concerned%s: %s",
            proxy,
            ", ".join(names),
            len(found.acknowledged),
            f" (the object is {suspect.key}, {suspect.provenance})" if suspect is not None else "",
            rejected.words,
        )


def _parts(resource: Resource) -> tuple[str, str, str, str]:
    key = resource.key
    return key.group, key.kind, key.namespace, key.name


def describe_alone(item: RefusedAlone) -> dict[str, object]:
    """What a single proxy refuses, as JSON data for status."""
    suspect = item.suspect
    return {
        "proxy": item.proxy,
        "type": short_name(item.type_url),
        "resources": list(item.names),
        "message": item.words,
        "object": str(suspect.key) if suspect is not None else "",
        "file": suspect.provenance.path if suspect is not None else "",
        "line": suspect.provenance.line if suspect is not None else 0,
        "since": item.since,
    }


def still_refused(
    alone: Iterable[RefusedAlone], proxies: Iterable[Mapping[str, Any]]
) -> list[RefusedAlone]:
    """Those of ``alone`` whose proxy is connected and has accepted nothing newer of the type.

    ``proxies`` are those of `lateen.serve.status.proxy_status`, of all processes.
    """
    refusing = {
        (f"{proxy['name']}.{proxy['namespace']}", kind)
        for proxy in proxies
        for kind, entry in proxy["types"].items()
        if entry["state"] == "ERROR"
    }
    return [item for item in alone if (item.proxy, short_name(item.type_url)) in refusing]
