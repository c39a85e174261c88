"""Runs the crews, breaks their world from outside, and talks to their agents meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc

from optio_agents.errors import FileRefused, InputClosed, OptioAgentsError
from optio_agents.hosts.host import make_host
from tests import proc
from tests.stress import faults
from tests.stress.circumstances import Crew, Ground, command
from tests.stress.faults import Fault, Tally
from tests.stress.supervisor import FOR_NOW, Work

_ROOT = Path(__file__).parents[2]
_PATIENCE = 3  # supervisors of a crew that may end badly, each of which is told


class Director:
    def __init__(self, ground: Ground) -> None:
        self.ground, self.scale = ground, ground.scale
        self.said = defaultdict[str, list[str]](list)  # by session, what its agent surely got
        self.problems = list[str]()
        self._tallies = {crew.name: Tally(crew.directory / "tally") for crew in ground.crews}
        self._own = Tally(ground.directory / "tally")
        self._processes = dict[str, anyio.abc.Process]()
        self._cards = Counter[tuple[str, str]]()  # that were dealt
        self._began, self._quiet = time.monotonic(), False

    async def run(self) -> None:
        """Return when every session has ended, or is given up."""
        within = self.scale.within * 0.93  # the books take the rest
        with anyio.move_on_after(within) as bound:
            async with anyio.create_task_group() as tasks:
                for work, crew in self._all_work():
                    tasks.start_soon(self._talk, work, crew)
                tasks.start_soon(self._call_it_a_day)
                for crew in self.ground.crews:
                    self._break(crew, tasks)
                async with anyio.create_task_group() as crews:
                    for number, crew in enumerate(self.ground.crews):
                        crews.start_soon(self._keep, crew, number)
                tasks.cancel_scope.cancel()
        if bound.cancelled_caught:
            self.problems.append(f"not over after {within:.0f} s")
            proc.kill(*self.ground.running())

    def close(self) -> None:
        for tally in (self._own, *self._tallies.values()):
            tally.close()

    def counts(self) -> dict[str, int]:
        total = self._own.counts()
        for tally in self._tallies.values():
            total += tally.counts()
        return dict(total)

    @property
    def _lived(self) -> float:
        return time.monotonic() - self._began

    def _all_work(self) -> list[tuple[Work, Crew]]:
        return [(work, crew) for crew in self.ground.crews for work in crew.work]

    async def _call_it_a_day(self) -> None:
        """Break nothing more, and let agents come to their end."""
        expected = set[str]().union(*(crew.steps for crew in self.ground.crews))
        early, late = self.scale.quiet
        await anyio.sleep(early)
        while self._lived < late and expected - self.counts().keys():  # noqa: ASYNC110 - in files
            await anyio.sleep(0.5)
        self._quiet = True
        self.ground.curfew.touch()

    # Supervisors

    async def _keep(self, crew: Crew, number: int) -> None:
        """One supervisor after the other, until one has seen all its sessions to their end."""
        troubles = 0
        while troubles < _PATIENCE:
            path = crew.directory / f"plan{crew.generation}.json"
            crew.plan(self.ground.run, self._dealt(crew, number)).save(path)
            code = await self._live(crew, path)
            crew.generation += 1
            if code == 0:
                return
            if code == FOR_NOW:
                await anyio.sleep(0.5)
            elif code != -signal.SIGKILL:
                troubles += 1
                log = crew.directory / "log"
                self.problems.append(f"{crew.name} ended with {code}: see {log}")

    async def _live(self, crew: Crew, plan: Path) -> int:
        environment = {**os.environ, "STRESS": self.ground.run}
        with (crew.directory / "log").open("ab") as log:
            process = self._processes[crew.name] = await anyio.open_process(
                command(crew, plan),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_ROOT,
                env=environment,
            )
        with anyio.move_on_after(self.scale.deaths[1] + 20):
            return await process.wait()
        if not self._quiet:  # the step that it was to die at did not come up
            with suppress(ProcessLookupError):  # it ends just now
                process.kill()
                self._own.hit("supervisor killed: anywhere")
        return await process.wait()

    def _dealt(self, crew: Crew, number: int) -> list[Fault]:
        """Of what may befall this crew, what befell anybody least."""
        if self._quiet:
            return []
        counts = self.counts()

        def rarest(cards: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
            shuffled = self.ground.chance.sample(cards, len(cards))
            hit = {card: counts.get(Fault(*card, 0).name, 0) for card in cards}
            return sorted(shuffled, key=lambda card: (hit[card], self._cards[card]))[:most]

        first = crew.generation == 0
        possible = [card for card in crew.deaths if first or card[1] != faults.EARLY[0]]
        early = [card for card in possible if card[1] == faults.EARLY[number % 3]]
        deaths = early if first and early else rarest(possible, 1)
        others = rarest(crew.others, 4)
        self._cards.update([*deaths, *others])
        return [self._fault(*card) for card in (*deaths, *others)]

    def _fault(self, what: str, step: str) -> Fault:
        low, high = self.scale.deaths
        if what != faults.KILLED:  # while it lives
            low, high = 0, low / 2
        after = 0 if step in faults.EARLY else self.ground.chance.uniform(low, high)
        lasting = {faults.STALLED: self.scale.stalled, faults.REFUSED: self.scale.stalled}
        return Fault(what, step, after, lasting.get(what, 2))

    # The world

    def _break(self, crew: Crew, tasks: anyio.abc.TaskGroup) -> None:
        deeds: dict[str, Callable[[Crew, str], Awaitable[None]]] = {
            "supervisor stopped": self._stop,
            "disk full: tasks": self._fill,
            "disk full: journal": self._fill,
            "sshd's sessions killed": self._kill_sshd,
            "sshd restarted": self._restart_sshd,
        }
        for name in crew.expected:
            if name in deeds:
                tasks.start_soon(self._do, deeds[name], crew, name)

    async def _do(
        self, deed: Callable[[Crew, str], Awaitable[None]], crew: Crew, name: str
    ) -> None:
        """Some time while agents are at work."""
        chance = random.Random(f"{self.ground.run} {name}")
        await anyio.sleep(chance.uniform(0.2, 0.7) * self.scale.quiet[0])
        await deed(crew, name)

    async def _stop(self, crew: Crew, name: str) -> None:
        while True:
            process = self._processes[crew.name]
            with suppress(ProcessLookupError):  # it may end just now
                process.send_signal(signal.SIGSTOP)
                await anyio.sleep(self.scale.stopped)
                process.send_signal(signal.SIGCONT)
                return self._own.hit(name)
            await anyio.sleep(0.1)

    async def _fill(self, crew: Crew, name: str) -> None:
        """No room until somebody has met that, and a while longer."""
        assert crew.disk is not None
        filling = crew.disk / "filling"
        while not any(crew.directory.glob("*.ledger")):  # noqa: ASYNC110 - its first agent
            await anyio.sleep(0.1)
        try:
            with filling.open("wb", buffering=0) as file:
                while not self._met(crew, name):
                    with suppress(OSError):  # what else is deleted meanwhile makes no room
                        while True:
                            file.write(bytes(4096))
                    await anyio.sleep(0.05)
            await anyio.sleep(1 if self.scale.quick else 20)
            self._own.hit(name)
        finally:
            filling.unlink()

    def _met(self, crew: Crew, name: str) -> bool:
        if name.endswith("journal"):
            return self._tallies[crew.name].counts()["trouble: StoreError"] > 0
        return any(b'["full"' in path.read_bytes() for path in crew.directory.glob("*.ledger"))

    async def _kill_sshd(self, _: Crew, name: str) -> None:
        assert self.ground.server is not None
        while not self.ground.server.kill_sessions():  # noqa: ASYNC110 - sshd tells nobody
            await anyio.sleep(0.5)
        self._own.hit(name)

    async def _restart_sshd(self, _: Crew, name: str) -> None:
        assert self.ground.server is not None
        self.ground.server.restart()
        self._own.hit(name)

    # Talking

    async def _talk(self, work: Work, crew: Crew) -> None:
        """Say each word under a name of its own, again and again until it is surely said."""
        chance = random.Random(work.session)
        ssh = self.ground.direct if crew.ssh else None
        for number, word in enumerate(work.agent["words"]):
            due = work.begins + chance.random() * work.agent["life"]
            await anyio.sleep(max(0, due - time.time()))
            while not await self._said(work, f"word-{number}", word, ssh):  # noqa: ASYNC110
                await anyio.sleep(1)

    async def _said(self, work: Work, name: str, word: str, ssh: object) -> bool:
        try:
            async with (
                make_host(ssh, taskdir=work.taskdir) as host,  # type: ignore[arg-type]
                host.adopt_agent() as agent,
            ):
                agent.detach()
                await agent.say(f"{word}\n".encode(), name=name)
        except InputClosed:
            return True  # it was killed before
        except (FileRefused, OptioAgentsError, OSError) as error:
            self._own.hit(f"talking: {type(error).__name__}")
            return False
        self.said[work.session].append(word)
        return True
