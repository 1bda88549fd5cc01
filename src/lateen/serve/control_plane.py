"""The control plane: source → snapshot → translation → proxies, and back to whoever waits.

One process, one event loop. The parts it joins: `lateen.source` (objects), `lateen.model`
(snapshot), `lateen.serve.push` (xDS), `lateen.pki` (certificates), `lateen.serve.api` (handlers
under ``/lateen/v1``) and `lateen.serve.monitoring` (metrics and debugging over HTTP).
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lateen.api.findings import Finding
from lateen.api.meshconfig import MeshConfig
from lateen.api.resource import ObjectKey
from lateen.model import kinds
from lateen.model.change import Change
from lateen.model.credentials import secret_problem
from lateen.model.snapshot import EMPTY, Snapshot, apply, with_mesh
from lateen.pki.authority import DEFAULT_TTL, Authority, ServerCertificate, load_or_create
from lateen.pki.tokens import TokenSigner
from lateen.serve import connected_file, quarantine_file
from lateen.serve.connection import Connection
from lateen.serve.everywhere import Everywhere
from lateen.serve.evidence import Evidence, Question, evidence
from lateen.serve.feed import decode_rejection
from lateen.serve.followers import Followers
from lateen.serve.found import Found
from lateen.serve.generator import ConfigGenerator
from lateen.serve.intake import Admitted, Intake, Standing
from lateen.serve.interpreter import keep_what_is_loaded
from lateen.serve.judgement import Judgement
from lateen.serve.loop_lag import watch_lag
from lateen.serve.mesh_metrics import MeshCollector
from lateen.serve.metrics import Metrics
from lateen.serve.moves import EXPECTED_AFTER_START, Moves
from lateen.serve.overload import Load
from lateen.serve.overload_notes import OverloadNotes
from lateen.serve.priority import ChangeClass
from lateen.serve.push import Acknowledgement, DiscoveryServer, PushOptions, Rejected
from lateen.serve.quarantine import Quarantine, Quarantined, blamed, describe, refused_resources
from lateen.source.embedded import Batch, EmbeddedSource
from lateen.source.store import Store

_log = logging.getLogger(__name__)
_QUARANTINE_FILE = "quarantine.json"
_CONNECTED_FILE = "connected.json"
_AHEAD_SECONDS = 3.0
"""How much later the control plane begins to serve at most, for proxies that were connected."""
_AT_ONCE = 0.5
"""Seconds that may pass between the admission of a change and the wait for it."""
_REMEMBER_EVERY = 1.0
"""Seconds between two looks whether others are connected than the file says."""
_MAX_OPEN_REJECTIONS = 1000


@dataclass(frozen=True, slots=True)
class ControlPlaneOptions:
    """What a control plane is started with."""

    state_dir: Path
    trust_domain: str = "cluster.local"
    dns_names: tuple[str, ...] = (
        "istiod.istio-system.svc",
        "istiod.istio-system.svc.cluster.local",
        "istiod.istio-system",
    )
    addresses: tuple[str, ...] = ()
    """IP addresses on which proxies reach this control plane."""
    xds_address: tuple[str, int] = ("127.0.0.1", 15012)
    """Where proxies connect to."""
    certificate_ttl: datetime.timedelta = DEFAULT_TTL
    push: PushOptions = PushOptions()
    mesh: MeshConfig | None = None
    """The mesh configuration that holds unless an object of the mesh has one."""


@dataclass(frozen=True, slots=True)
class WaitResult:
    """Whether all proxies run a revision, and what was refused meanwhile."""

    acknowledgement: Acknowledgement
    rejections: tuple[Quarantined, ...] = ()
    deferred: int = 0
    """Objects whose changes were deferred when the time was over and the revision was not in force
    because of them."""
    seconds: float = 0.0
    """How long was waited."""

    @property
    def acknowledged(self) -> bool:
        """Everything arrived and nothing was refused."""
        return self.acknowledgement.acknowledged and not self.rejections

    def data(self) -> dict[str, object]:
        """As JSON data."""
        return {
            "acknowledged": self.acknowledged,
            "proxies": self.acknowledgement.proxies,
            "laggards": [
                {
                    "proxy": item.proxy,
                    "types": list(item.types),
                    "rejection": item.rejection,
                    "unsettledSeconds": item.unsettled,
                }
                for item in self.acknowledgement.laggards
            ],
            "rejections": [describe(entry) for entry in self.rejections],
            "deferredChanges": self.deferred,
            "seconds": round(self.seconds, 3),
        }


class ControlPlane:
    """Joins the parts. `run` follows the store until cancelled."""

    def __init__(
        self,
        options: ControlPlaneOptions,
        store: Store,
        generator: ConfigGenerator,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock`` gives seconds; by it the control plane finds out whether it is overloaded."""
        self.options = options
        self.store = store
        self.metrics = Metrics()
        self.snapshot: Snapshot = EMPTY
        self.found = Found()
        if options.mesh is not None:
            self.snapshot, _ = with_mesh(EMPTY, options.mesh)
        self.quarantine = Quarantine()
        self.broken: dict[ObjectKey, tuple[Finding, ...]] = {}
        """Objects of the store that this version cannot read; their last good form stays."""
        self.broken_files: dict[str, tuple[Finding, ...]] = {}
        """Findings of watched files, by path."""
        self.authority: Authority = load_or_create(options.state_dir / "ca", options.trust_domain)
        self.metrics.root_expiry.set(self.authority.expires.timestamp())
        self.started_at = time.time()
        self.server = DiscoveryServer(
            generator,
            self.metrics,
            options.push,
            on_rejection=self._rejected,
            on_push=self._after_push,
        )
        self.server.on_begin = self._push_begins
        self.server.on_end = self._push_ends
        self._clock = clock
        self._intake = Intake(
            Load(options.push.overload_after, options.push.defer_max), self._count_deferrals
        )
        self._notes = OverloadNotes(options.push.defer_max)
        self._stir = asyncio.Event()
        """Set when changes may have been admitted, or may be earlier than was expected."""
        self.metrics.registry.register(MeshCollector(self))
        self.judgement = Judgement(
            self._evidence,
            self._convicted,
            lambda found: self.metrics.verdicts.labels(str(found)).inc(),
        )
        """Refusals by proxies: for whom they count."""
        self.workers: Followers | None = None
        """Further processes that serve the same."""
        self.moves = Moves()
        """Proxies that have no connection because some process sent them away, or has ended."""
        self.everywhere = Everywhere(
            self, lambda: self.workers.serving() if self.workers else (), self.moves
        )
        """Asks all processes."""
        self.server.on_departure = self._departed
        self._source = EmbeddedSource(store)
        self._applied = asyncio.Condition()
        self._open: list[Rejected] = []
        self._certificate: ServerCertificate | None = None

    @functools.cached_property
    def tokens(self) -> TokenSigner:
        """Signs service-account tokens; most meshes never need one, so it is made when asked."""
        return TokenSigner(self.options.state_dir / "ca")

    @property
    def revision(self) -> int:
        """Store revision that the snapshot holds: nothing up to it is deferred."""
        return self._intake.revision

    @property
    def standing(self) -> Standing:
        """Whether the control plane is overloaded, and what it defers."""
        return self._intake.standing(self._clock())

    # Objects in

    def load(self) -> None:
        """Read everything the store holds and begin to serve it."""
        batch = self._source.start()
        for entry in quarantine_file.read(self.options.state_dir / _QUARANTINE_FILE, batch.changes):
            self.quarantine.restore(entry)
        self._take(batch)
        connected = connected_file.read(self.options.state_dir / _CONNECTED_FILE)
        self.moves.left(connected, EXPECTED_AFTER_START)
        self._translate_ahead(connected)
        self.server.set_ready()
        keep_what_is_loaded()

    def _translate_ahead(self, connected: Sequence[str]) -> None:
        """What proxies that come back ask for all at once is made before the first of them may: it
        takes as long later, with all of them waiting and their handshakes beside it."""
        if not connected or self.workers is not None:  # who comes to which process nobody knows
            return
        begun = time.monotonic()
        made = self.server.translate_ahead(connected, _AHEAD_SECONDS)
        taken = time.monotonic() - begun
        _log.info("made the configuration of %d proxies ahead in %.1f s", made, taken)

    async def _forget_unused(self) -> None:
        await asyncio.sleep(EXPECTED_AFTER_START)
        self.server.forget_unused()

    async def run(self) -> None:
        """Follow the store and push, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._keep_admitting())
            tasks.create_task(self.server.run())
            tasks.create_task(self.server.housekeeping())
            tasks.create_task(watch_lag(self.metrics.loop_lag))
            tasks.create_task(self._remember_connected())
            tasks.create_task(self._forget_unused())

    async def _follow(self) -> None:
        async for batch in self._source.batches():
            self._take(batch)

    async def _keep_admitting(self) -> None:
        """Admit what was deferred when its time has come, and tell who waits for it."""
        while True:
            self._stir.clear()
            self._admit()
            async with self._applied:
                self._applied.notify_all()
            due = self._intake.due()
            try:
                async with asyncio.timeout(None if due is None else due - self._clock()):
                    await self._stir.wait()
            except TimeoutError:
                continue

    def _take(self, batch: Batch) -> None:
        for finding in batch.findings:
            if finding.key is not None:
                self.broken[finding.key] = (finding,)
                self.metrics.rejected_configs.labels(finding.key.kind, finding.rule).inc()
                _log.error("%s: %s (%s)", finding.provenance, finding.message, finding.key)
        for change in batch.changes:
            self.broken.pop(change.key, None)
            self._count_change(change)
        self.metrics.broken.set(len(self.broken))
        self._intake.receive(batch.changes, batch.revision, self._clock())
        self._admit()
        self._stir.set()

    def _admit(self) -> None:
        """Let into the snapshot what need not wait for more urgent changes."""
        now = self._clock()
        self._enter(self._intake.admit(now), now)

    def _enter(self, admission: Admitted | None, now: float) -> None:
        self._notes.note(self._intake, now)
        if admission is None:
            return
        held = len(self.quarantine)
        # Only now, so that what is held back is judged by what is in force.
        admitted = self.quarantine.admit(admission.changes)
        try:
            admitted = self._without_unusable_secrets(admitted)
        except Exception:
            _log.exception("%d changes were not looked at before they are in force", len(admitted))
        if len(self.quarantine) != held:
            self._quarantine_changed()
        try:
            self._apply(admitted, immediate=admission.immediate, age=now - admission.since)
        except Exception:
            # Translation reads whatever objects say; a defect that one of them meets is found out
            # below.
            _log.exception("applying %d changes failed; they are applied one by one", len(admitted))
            self._apply_singly(admitted)

    def _without_unusable_secrets(self, changes: Sequence[Change]) -> list[Change]:
        """A Secret whose new certificate no proxy could load stays at its last good form, so that
        what is served with it goes on."""
        admitted = []
        for change in changes:
            key, resource = change.key, change.resource
            good = self.snapshot.get(key) if (key.group, key.kind) == kinds.SECRET else None
            if resource is None or good is None or good is resource:
                admitted.append(change)
                continue
            problem = secret_problem(resource)
            if not problem or secret_problem(good):
                admitted.append(change)
                continue
            _log.error("%s (%s) is held back: %s", key, resource.provenance, problem)
            admitted.append(self.quarantine.refuse(resource, good, problem))
        return admitted

    def _push_begins(self) -> None:
        self._intake.push_begins(self._clock())

    def _push_ends(self) -> None:
        # At once and not in a task of its own: the next push may begin before that has its turn.
        self._intake.push_ends(self._clock())
        self._admit()
        self._stir.set()

    def _count_deferrals(self, found: ChangeClass, count: int) -> None:
        self.metrics.deferrals.labels(str(found)).inc(count)

    def _count_change(self, change: Change) -> None:
        key = change.key
        self.metrics.inbound_updates.labels(_update_kind(key)).inc()
        known = self.snapshot.get(key) is not None
        event = "delete" if change.resource is None else "update" if known else "add"
        kinds = {"Service": "Services", "Pod": "Pods", "Node": "Nodes"}
        if key.kind in (*kinds, "EndpointSlice", "Endpoints"):
            self.metrics.registry_events.labels(kinds.get(key.kind, key.kind), event).inc()
        elif key.group.endswith(".istio.io"):
            self.metrics.config_events.labels(key.kind, event).inc()

    def _apply_singly(self, changes: Sequence[Change]) -> None:
        """One object that meets a defect of ours must not keep out the others."""
        for change in changes:
            try:
                self._apply([change])
            except Exception:
                self.metrics.internal_errors.inc()
                self.metrics.rejected_configs.labels(change.key.kind, "internal").inc()
                _log.exception("%s is left as it was", change.key)

    def _apply(
        self, changes: Sequence[Change], *, immediate: bool = False, age: float = 0.0
    ) -> None:
        begun = time.monotonic()
        self.snapshot, changed = apply(self.snapshot, changes)
        self.metrics.pushcontext_init.observe(time.monotonic() - begun)
        self.metrics.phase["snapshot"].observe(time.monotonic() - begun)
        if changed.empty:
            return
        self.metrics.snapshot_version.set(self.snapshot.version)
        self.server.publish(self.snapshot, changed, immediate=immediate, age=age)
        if self.workers is not None:
            self.workers.changed(changes, self.snapshot.version, immediate=immediate)

    def push_everything(self) -> None:
        """Make every configuration from scratch and push what differs (for operators).

        What is deferred comes with it, as leaving it out would spare nothing.
        """
        now = self._clock()
        self._enter(self._intake.admit_all(now), now)
        self._stir.set()
        self.snapshot, changed = with_mesh(self.snapshot, self.snapshot.base_mesh)
        self.metrics.snapshot_version.set(self.snapshot.version)
        self.server.publish(self.snapshot, changed, immediate=True)
        if self.workers is not None:
            self.workers.everything(self.snapshot.version)

    # Rejections back

    def _rejected(self, rejected: Rejected) -> None:
        """A proxy refused resources: put the object that caused it back to its last good form."""
        still_offered = [item for item in refused_resources(rejected) if self.server.offers(item)]
        if not still_offered:
            return  # superseded already
        if any(_same_refusal(rejected, other) for other in self._open):
            return  # another proxy said so before; it is being dealt with
        self.judgement.open(rejected)

    def rejected_elsewhere(self, raw: dict[str, Any]) -> None:
        """A proxy of another process refused resources (`lateen.serve.feed`)."""
        rejected = decode_rejection(raw, self.snapshot)
        if rejected is not None:
            self.judgement.open(rejected)

    async def _evidence(self, question: Question) -> Evidence:
        """What the proxies of all processes say of refused resources."""
        found = evidence(self.server.connections, question)
        if self.workers is not None:
            for other in await self.workers.evidence(question):
                found = found.joined(other)
        return found

    def _convicted(self, rejected: Rejected) -> None:
        """Nobody vouches for what was refused: keep it from all."""
        if any(self.server.offers(item) for item in refused_resources(rejected)):
            if len(self._open) < _MAX_OPEN_REJECTIONS:
                self._open.append(rejected)
            self._contain(rejected)
        elif self.workers is not None:
            self._contain(rejected)  # a proxy of another process has it

    def _contain(self, rejected: Rejected) -> None:
        cleared = {entry.refused.key for entry in self.quarantine.entries if entry.good is None}
        cleared |= {
            entry.refused.key
            for entry in self.quarantine.entries
            if rejected.snapshot.get(entry.refused.key) is entry.good
        }
        resource = blamed(rejected, cleared)
        change = self.quarantine.hold(rejected, resource) if resource is not None else None
        if resource is None or change is None:
            names = ", ".join(item.name for item in refused_resources(rejected))
            _log.error("withheld %s, refused by %s: %s", names, rejected.proxy.name, rejected.words)
            self.server.withhold(refused_resources(rejected))
            if self.workers is not None:
                self.workers.withheld(self.server.withheld)
            return
        _log.error(
            "%s (%s) is held back%s: %s.%s refused it: %s",
            resource.key,
            resource.provenance,
            " in its last good form" if change.resource is not None else "",
            rejected.proxy.name,
            rejected.proxy.namespace,
            rejected.words,
        )
        self.metrics.rejected_configs.labels(resource.key.kind, "nack").inc()
        self._quarantine_changed()
        self._apply([change], immediate=True)

    def _after_push(self) -> None:
        """See whether what was put back got rid of what was refused; blame further if not."""
        remaining, self._open = self._open, []
        for rejected in remaining:
            if self.server.pushed_version < self.snapshot.version:
                self._open.append(rejected)
            elif any(self.server.offers(item) for item in refused_resources(rejected)):
                self._contain(rejected)

    def _quarantine_changed(self) -> None:
        self.metrics.quarantined.set(len(self.quarantine))
        quarantine_file.write(self.options.state_dir / _QUARANTINE_FILE, self.quarantine.entries)

    # Waiting

    async def wait(self, revision: int, timeout: float) -> WaitResult:
        """Wait until every proxy runs store revision ``revision``; at most ``timeout`` seconds."""
        begun, deadline = time.time(), time.monotonic() + timeout
        try:
            async with asyncio.timeout(timeout), self._applied:
                await self._applied.wait_for(lambda: self.revision >= revision)
        except TimeoutError:
            behind = Acknowledgement(False, len(self.server.connections))
            return WaitResult(behind, deferred=self.standing.deferred, seconds=timeout)
        version = self.snapshot.version
        while True:
            left = max(0.0, deadline - time.monotonic())
            result = await self.everywhere.wait_for(version, left)
            # What no proxy was asked about was refused at once, just before anything waited for it.
            rejections = tuple(
                entry
                for entry in self.quarantine.entries
                if entry.since >= (begun if entry.proxy else begun - _AT_ONCE)
            )
            if self.snapshot.version == version or not rejections or left <= 0:
                return WaitResult(result, rejections, seconds=time.time() - begun)
            version = self.snapshot.version  # wait for what was put back as well

    async def _remember_connected(self) -> None:
        path = self.options.state_dir / _CONNECTED_FILE
        written: set[str] | None = None
        while True:
            connected = self.everywhere.proxies()
            if connected != written:
                await asyncio.to_thread(connected_file.write, path, connected)
                written = connected
            await asyncio.sleep(_REMEMBER_EVERY)

    def _departed(self, connection: Connection) -> None:
        if connection.stream.sent_away:
            self.moves.left([connection.proxy.id])

    # Certificates

    def certificate(self) -> ServerCertificate:
        """The control plane's own key and certificate, made anew after half of its life."""
        now = datetime.datetime.now(datetime.UTC)
        current = self._certificate
        if current is not None:
            half = current.issued.not_before + (
                (current.issued.expires - current.issued.not_before) / 2
            )
            if now < half:
                return current
        self._certificate = self.authority.server_certificate(
            self.options.dns_names, self.options.addresses, self.options.certificate_ttl
        )
        return self._certificate

    def close(self) -> None:
        """End following the store."""
        self._source.close()


def _same_refusal(left: Rejected, right: Rejected) -> bool:
    versions = {item.version for item in refused_resources(left)}
    return versions <= {item.version for item in refused_resources(right)}


def _update_kind(key: ObjectKey) -> str:
    if key.kind in ("Pod", "EndpointSlice", "Endpoints", "WorkloadEntry"):
        return "eds"
    return "svc" if key.kind == "Service" else "config"
