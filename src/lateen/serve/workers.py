"""The first process' side of several: it starts replicas, feeds them and speaks for all.

There may be none as long as the mesh is small, and more when it has grown.

A replica that dies is started again and gets everything there is. Proxies are spread by the kernel
over the processes that listen on the port; when one has more than its share by over 20 per cent,
for instance because another came back, the surplus is asked to connect anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from lateen.model.change import Change
from lateen.serve import feed
from lateen.serve.channel import CallFailed, ChannelClosed, Value
from lateen.serve.control_plane import ControlPlane
from lateen.serve.evidence import Evidence, Question
from lateen.serve.preload import Preload, preload_of
from lateen.serve.tls import ServerTls
from lateen.serve.withheld import Withheld, encode_withheld
from lateen.serve.worker import Worker, start

_log = logging.getLogger(__name__)
IMBALANCE = 1.2
"""A process with more than this times the mean number of proxies sheds what is above the mean."""
_ARRIVING = 1.05
"""Growth of the number of proxies, between two looks, from which on they are still arriving."""
_START_LIMIT = 60.0
_RESTART_DELAY = 1.0
_SPAWN_DELAY = 5.0
_END_LIMIT = 5.0


class Workers:
    """The replicas of one control plane (see `lateen.serve.followers.Followers`)."""

    def __init__(
        self,
        plane: ControlPlane,
        wanted: Callable[[], int],
        arguments: Iterable[str],
        tls: Callable[[], ServerTls],
        shed: Callable[[int], Awaitable[int]],
        balance_interval: float = 5.0,
    ) -> None:
        """``wanted`` says how many processes there shall be at least, this one among them; it may
        say more later. ``arguments`` are those of `lateen.serve.replica`; ``shed`` makes this
        process' own surplus connect anew."""
        self._plane = plane
        self._wanted = wanted
        self._count = 0
        """Replicas beside this process."""
        self._started = 0
        self._arguments = tuple(arguments)
        self._tls = tls
        self._sent_tls: ServerTls | None = None
        self._shed = shed
        self._interval = balance_interval
        self._workers: list[Worker] = []
        self._prepared: list[Worker] = []
        """Processes that run and have nothing yet."""
        self._listening = False
        self._stopping = False
        self._seen = 0
        """Proxies of all processes at the last look."""
        self._grow()

    async def run(self) -> None:
        """Keep the replicas running, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._start_missing(tasks)
            tasks.create_task(self._balance(tasks))

    def _grow(self) -> None:
        self._count = max(self._count, self._wanted() - 1)
        if self._count:
            self._plane.workers = self

    def _start_missing(self, tasks: asyncio.TaskGroup) -> None:
        while self._started < self._count:
            tasks.create_task(self._keep(self._started))
            self._started += 1

    async def wait_loaded(self) -> None:
        """Until all replicas have all objects."""
        await self._until_all(lambda worker: worker.loaded)

    async def listen(self) -> None:
        """Have all replicas let proxies in, now and whenever one is started again."""
        self._listening = True
        for worker in self._workers:
            if worker.loaded:
                worker.listen()
        await self._until_all(lambda worker: worker.ready)

    async def _until_all(self, condition: Callable[[Worker], bool]) -> None:
        deadline = time.monotonic() + _START_LIMIT
        while (done := sum(map(condition, self._workers))) < self._count:
            if time.monotonic() > deadline:
                raise OSError(
                    f"{self._count - done} of {self._count} further processes did not get ready "
                    f"within {_START_LIMIT:.0f} s (see the log; --workers 1 does without)"
                )
            await asyncio.sleep(0.05)

    async def stop(self, grace: float) -> None:
        """Have replicas end their streams, and end them. `run` must go on meanwhile."""
        self._stopping = True
        workers = tuple(self._workers)
        for worker in workers:
            worker.channel.notify("stop")
        ends = [asyncio.ensure_future(worker.process.wait()) for worker in workers]
        if ends:
            await asyncio.wait(ends, timeout=grace + 3.0)
        for worker in workers:
            if worker.process.returncode is None:
                worker.process.kill()

    # Told by the control plane

    def changed(self, changes: Iterable[Change], version: int, *, immediate: bool) -> None:
        """Changes were applied to the snapshot, which is now ``version``."""
        rows = feed.encode_changes(changes)
        self._tell("changes", {"changes": rows, "version": version, "immediate": immediate})

    def everything(self, version: int) -> None:
        """All configuration is made anew under ``version``."""
        self._tell("everything", version)

    def withheld(self, items: Iterable[Withheld]) -> None:
        """These versions of resources go to no proxy."""
        self._tell("withhold", encode_withheld(items))

    # Asked by whoever wants to know

    def serving(self) -> list[Worker]:
        """Replicas that may have proxies."""
        return [worker for worker in self._workers if worker.told_to_listen]

    async def statuses(self) -> list[Mapping[str, Value]]:
        """``proxies`` and ``scopes`` of each replica, with its ``pid``."""
        return await self._ask("status")

    async def config(self, name: str, type_url: str) -> Value:
        """The configuration of a proxy that some replica has; None when none has it."""
        return await self._first("config", {"name": name, "type": type_url})

    async def debug(self, name: str, query: Mapping[str, str]) -> list[tuple[bytes, str]]:
        """Each replica's answer to a debug request."""
        return [tuple(x) for x in await self._ask("debug", {"name": name, "query": dict(query)})]

    async def metrics(self, kind: str = "") -> list[Value]:
        """Each replica's metrics as `lateen.serve.merged.Export`."""
        return await self._ask("metrics", kind)

    async def evidence(self, question: Question) -> list[Evidence]:
        """What each replica's proxies say of refused resources."""
        answers = await self._ask("evidence", msgspec.to_builtins(question))
        return [msgspec.convert(answer, type=Evidence) for answer in answers]

    async def totals(self) -> list[Mapping[str, float]]:
        """Each replica's totals of work done."""
        return await self._ask("totals")

    # Processes

    async def prepare(self) -> None:
        """Start the processes of replicas that are needed already, to be loaded by `run`: they read
        what the store holds while this one does. Raises ``OSError``."""
        if not self._count:
            return
        preload = preload_of(self._plane.snapshot.base_mesh, self._plane.store.all())
        while len(self._prepared) < self._count:
            self._prepared.append(await self._spawn(preload))

    async def _keep(self, number: int) -> None:
        while True:
            begun = time.monotonic()
            try:
                worker = self._prepared.pop() if self._prepared else await self._spawn()
            except OSError as error:
                _log.error("cannot start replica %d: %s; trying again", number + 1, error)
                await asyncio.sleep(_SPAWN_DELAY)
                continue
            self._load(worker)
            self._workers.append(worker)
            if self._stopping:
                worker.channel.notify("stop")
            try:
                await self._follow(worker)
                async with asyncio.timeout(_END_LIMIT):
                    await worker.process.wait()
            except TimeoutError:
                pass
            finally:
                if worker.process.returncode is None:
                    worker.process.kill()
            await worker.process.wait()
            if self._stopping:
                return
            code = worker.process.returncode
            _log.error("replica %d ended with status %s; it is started again", number + 1, code)
            await asyncio.sleep(max(0.0, _RESTART_DELAY - (time.monotonic() - begun)))

    async def _follow(self, worker: Worker) -> None:
        """Hear what it says until it is gone. Its proxies count as away from that moment on, though
        the process may take longer to end: nobody speaks for them."""
        try:
            await worker.channel.run()
        finally:
            self._workers.remove(worker)
            if not self._stopping:
                self._plane.moves.left(worker.proxies)

    async def _spawn(self, preload: Preload | None = None) -> Worker:
        worker: Worker

        async def told(name: str, value: Value) -> Value:
            if name == "loaded":
                worker.loaded = True
                if self._listening:
                    worker.listen()
            elif name == "ready":
                worker.ready = True
            elif name == "arrived":
                worker.arrived(value)
            elif name == "departed":
                proxy, sent_away = value
                worker.departed(proxy)
                if sent_away:
                    self._plane.moves.left([proxy])
            elif name == "push":
                self._plane.push_everything()
            elif name == "rejected":
                self._plane.rejected_elsewhere(value)

        worker = await start(self._arguments, told, preload)
        return worker

    def _load(self, worker: Worker) -> None:
        """Give it all that there is."""
        plane = self._plane
        snapshot, preload = plane.snapshot, worker.preload
        worker.preload = None
        if preload is None:
            changes = [Change(resource.key, resource) for resource in snapshot.resources()]
        else:
            changes = preload.differences(snapshot)
        self._tell_tls([worker])
        worker.channel.notify(
            "load",
            {
                "mesh": msgspec.to_builtins(snapshot.base_mesh),
                "withheld": encode_withheld(plane.server.withheld),
                "changes": feed.encode_changes(changes),
                "version": snapshot.version,
            },
        )

    async def _balance(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self._interval * random.uniform(0.8, 1.2))
            if not self._stopping:
                self._grow()
                self._start_missing(tasks)
            tls = self._tls()
            if tls is not self._sent_tls:
                self._sent_tls = tls
                self._tell_tls(self._workers)
            await self._shed_surplus()

    async def _shed_surplus(self) -> None:
        ready = [worker for worker in self._workers if worker.ready]
        if not ready or self._plane.everywhere.waits:
            return  # who moves now would be missing in the answer
        try:
            counts = [len(self._plane.server.connections), *(w.proxies.total() for w in ready)]
            before, self._seen = self._seen, sum(counts)
            if arriving(before, self._seen):
                return  # who has come to one process first does not say who will in the end
            for index, surplus in enumerate(surpluses(counts)):
                if surplus and index == 0:
                    await self._shed(surplus)
                elif surplus:
                    await ready[index - 1].channel.call("shed", surplus)
        except (ChannelClosed, CallFailed, TimeoutError, LookupError, OSError) as error:
            _log.warning("cannot balance proxies over replicas: %r", error)

    def _tell_tls(self, workers: Iterable[Worker]) -> None:
        tls = self._tls()
        for worker in workers:
            worker.channel.notify("certificate", [tls.key, tls.chain, tls.trust_bundle])

    def _tell(self, name: str, value: Value) -> None:
        for worker in self._workers:
            worker.channel.notify(name, value)

    async def _ask(self, name: str, value: Value = None, timeout: float = 10.0) -> list[Value]:
        """The answers of all replicas; one that just died has no proxies to speak of."""
        asked = (worker.channel.call(name, value, timeout) for worker in self.serving())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(
                answer, (ChannelClosed, LookupError, TimeoutError)
            ):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def _first(self, name: str, value: Value) -> Value:
        found = [answer for answer in await self._ask(name, value) if answer is not None]
        return found[0] if found else None


def arriving(before: int, now: int) -> bool:
    """Whether so many proxies have come since the last look that more may be under way."""
    return now > max(before * _ARRIVING, before + 1)


def surpluses(counts: list[int]) -> list[int]:
    """How many proxies each process should give up, so that none is over the mean by 20 %."""
    mean = sum(counts) / len(counts)
    return [int(count - mean) if count > max(mean * IMBALANCE, mean + 1) else 0 for count in counts]
