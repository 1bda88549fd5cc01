"""A pod that refuses configuration on purpose must not keep it from anybody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lateen.model.discovery import CLUSTER
from lateen.serve.evidence import Evidence, Question, Verdict, evidence, verdict
from lateen.serve.judgement import Judgement, RefusedAlone, still_refused
from lateen.serve.push import Rejected
from lateen.serve.status import proxy_status
from tests.serve.mesh import Mesh, config_map, pod, running_mesh
from tests.serve.simulated import SimulatedProxy


class Judge:
    """A judgement over the proxies of one mesh, and what came of it."""

    def __init__(self, mesh: Mesh) -> None:
        self.contained: list[Rejected] = []
        self.verdicts: list[Verdict] = []
        self._mesh = mesh
        self.judgement = Judgement(self._ask, self.contained.append, self.verdicts.append)
        mesh.server.on_rejection = self.judgement.open

    async def _ask(self, question: Question) -> Evidence:
        return evidence(self._mesh.server.connections, question)

    async def decided(self) -> Verdict:
        async with asyncio.timeout(10):
            while not self.verdicts:
                await asyncio.sleep(0.01)
        return self.verdicts[0]


async def completed(*proxies: SimulatedProxy) -> None:
    for proxy in proxies:
        await proxy.ask()
        await proxy.ack(await proxy.read())


async def test_what_another_proxy_accepts_is_kept_from_nobody(tmp_path: Path) -> None:
    resources = (pod("victim"), pod("evil", account="evil"), config_map("a"))
    async with (
        running_mesh(tmp_path, *resources) as mesh,
        SimulatedProxy(mesh, "victim") as victim,
        SimulatedProxy(mesh, "evil", identity=("default", "evil")) as evil,
    ):
        judge = Judge(mesh)
        await completed(victim, evil)
        mesh.change(config_map("a", timeout="7"))
        # The attacker is first, and the victim has not even read it.
        await evil.nack(await evil.read(), "a: no good")
        await asyncio.sleep(0.3)
        assert judge.verdicts == []
        await victim.ack(await victim.read())
        assert await judge.decided() is Verdict.ALONE
        assert judge.contained == []
        [alone] = judge.judgement.alone.values()
        assert (alone.proxy, alone.words) == ("evil.default", "a: no good")
        assert alone.suspect is not None
        assert alone.suspect.key.name == "a"

        def shown() -> list[RefusedAlone]:
            proxies = map(proxy_status, mesh.server.connections)
            return still_refused(judge.judgement.alone.values(), proxies)

        assert shown() == [alone]
        mesh.change(config_map("a", timeout="8"))
        await evil.ack(await evil.read())
        async with asyncio.timeout(10):
            while shown():
                await asyncio.sleep(0.01)


async def test_proxies_that_a_push_has_not_reached_have_yet_to_say(tmp_path: Path) -> None:
    resources = (pod("victim"), pod("evil", account="evil"), config_map("a"))
    async with (
        running_mesh(tmp_path, *resources) as mesh,
        SimulatedProxy(mesh, "victim") as victim,
        SimulatedProxy(mesh, "evil", identity=("default", "evil")) as evil,
    ):
        await completed(victim, evil)
        proxies = {item.proxy.name: item for item in mesh.server.connections}
        now = mesh.server.snapshot.version
        for version, pending in ((now, 0), (now + 1, 1)):
            # Of the newer version nobody else has been sent anything yet.
            question = Question(CLUSTER, (("new", "1"),), proxies["evil"].node.id, version)
            assert evidence(proxies.values(), question).pending == pending


async def test_many_streams_of_one_attacker_are_one_voice(tmp_path: Path) -> None:
    evils = [f"evil-{number}" for number in range(4)]
    pods = [pod(name, account="evil") for name in evils]
    async with (
        running_mesh(tmp_path, pod("victim"), *pods, config_map("a")) as mesh,
        SimulatedProxy(mesh, "victim") as victim,
    ):
        judge = Judge(mesh)
        attackers = [SimulatedProxy(mesh, name, identity=("default", "evil")) for name in evils]
        for attacker in attackers:
            await attacker.__aenter__()
        try:
            await completed(victim, *attackers)
            mesh.change(config_map("a", timeout="7"))
            for attacker in attackers:
                await attacker.nack(await attacker.read(), "a: no good")
            await victim.ack(await victim.read())
            assert await judge.decided() is Verdict.ALONE
            assert judge.contained == []
        finally:
            for attacker in attackers:
                await attacker.__aexit__(None, None, None)


async def test_what_all_refuse_is_held_back_from_all(tmp_path: Path) -> None:
    resources = (pod("one"), pod("two", account="two"), config_map("a"))
    async with (
        running_mesh(tmp_path, *resources) as mesh,
        SimulatedProxy(mesh, "one") as one,
        SimulatedProxy(mesh, "two", identity=("default", "two")) as two,
    ):
        judge = Judge(mesh)
        await completed(one, two)
        mesh.change(config_map("a", bad="yes"))
        for proxy in (one, two):
            await proxy.nack(await proxy.read(), "a: no good")
        assert await judge.decided() is Verdict.ALL
        assert len(judge.contained) == 1


async def test_a_proxy_that_is_the_only_one_concerned_is_believed(tmp_path: Path) -> None:
    async with (
        running_mesh(tmp_path, pod("one"), config_map("a")) as mesh,
        SimulatedProxy(mesh) as one,
    ):
        judge = Judge(mesh)
        await completed(one)
        mesh.change(config_map("a", bad="yes"))
        await one.nack(await one.read(), "a: no good")
        assert await judge.decided() is Verdict.ALL


def test_one_that_accepts_everything_cannot_keep_a_bad_object_in_force() -> None:
    found = Evidence(frozenset({"evil"}), frozenset({"one", "two"}))
    assert verdict(found, patient=True) is Verdict.ALL


def test_silence_is_waited_for_but_not_for_ever() -> None:
    found = Evidence(frozenset(), frozenset({"one"}), pending=3)
    assert verdict(found, patient=True) is Verdict.OPEN
    assert verdict(found, patient=False) is Verdict.ALL
