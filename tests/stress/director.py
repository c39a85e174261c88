"""Keeps every crew supervised, deals it its faults, and says when it is enough."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.abc

from optio_agents.errors import StoreError
from optio_agents.store import Store
from tests.stress import faults
from tests.stress.circumstances import Ground
from tests.stress.crews import Crew
from tests.stress.faults import Fault, Tally
from tests.stress.plans import FOR_NOW
from tests.stress.talkers import Talkers
from tests.stress.world import World
from tests.support import proc

# ruff: noqa: T201  # a command prints

_ROOT = Path(__file__).parents[2]
_PATIENCE = 3  # supervisors of a crew that may end badly, each of which is told


class Director:
    def __init__(self, ground: Ground) -> None:
        self.ground, self.scale = ground, ground.scale
        self.problems = list[str]()
        self._tally = Tally(ground.directory / "tally")
        self._processes = dict[str, anyio.abc.Process]()
        self.talkers = Talkers(self._tally)
        self._world = World(ground, self._processes, self._tally)
        self._cards = Counter[tuple[str, str]]()  # that were dealt
        self._began, self._quiet = time.monotonic(), False

    async def run(self) -> None:
        """Return when every session has ended, or is given up."""
        with anyio.move_on_after(self.scale.within) as bound:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._call_it_a_day)
                tasks.start_soon(self._say_how_far)
                for crew in self.ground.crews:
                    tasks.start_soon(self._world.shake, crew)
                    for work in crew.work:
                        there = self.ground.direct if crew.ssh else None
                        tasks.start_soon(self.talkers.talk, work, there)
                async with anyio.create_task_group() as crews:
                    for number, crew in enumerate(self.ground.crews):
                        crews.start_soon(self._keep, crew, number)
                tasks.cancel_scope.cancel()
        if bound.cancelled_caught:
            self.problems.append(f"not over after {self.scale.within:.0f} s")
            proc.kill(*self.ground.running())

    def close(self) -> None:
        for tally in (self._tally, *(crew.tally for crew in self.ground.crews)):
            tally.close()

    def counts(self) -> Counter[str]:
        tallies = (self._tally, *(crew.tally for crew in self.ground.crews))
        return sum((tally.counts() for tally in tallies), Counter())

    @property
    def _lived(self) -> float:
        return time.monotonic() - self._began

    async def _call_it_a_day(self) -> None:
        """Break nothing more but what happens at their end, and let agents come to it."""
        early, late = self.scale.quiet
        await anyio.sleep(early)
        while self._lived < late and not all(  # noqa: ASYNC110 - in files
            name.endswith(faults.LATE) for name in self._not_hit()
        ):
            await anyio.sleep(0.5)
        self._quiet = True
        self.ground.curfew.touch()

    def _not_hit(self) -> set[str]:
        return set[str]().union(*(crew.steps for crew in self.ground.crews)) - self.counts().keys()

    async def _say_how_far(self) -> None:
        total = sum(len(crew.work) for crew in self.ground.crews)
        over = Counter[Path]()  # by journal
        while True:
            await anyio.sleep(30)
            for journal in {crew.journal for crew in self.ground.crews}:
                with suppress(StoreError):  # it has no room just now
                    async with Store(journal) as store:
                        over[journal] = sum(stored.over for stored in await store.sessions())
            left = "" if self._quiet else f", {len(self._not_hit())} faults to come"
            print(f"{self._lived:5.0f} s: {over.total()} of {total} are over{left}", flush=True)

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
                words = (crew.directory / "log").read_text(errors="replace").splitlines()[-8:]
                self.problems.append("\n".join([f"{crew.name} ended with {code}:", *words]))

    async def _live(self, crew: Crew, plan: Path) -> int:
        environment = {**os.environ, "STRESS": self.ground.run}
        with (crew.directory / "log").open("ab") as log:
            process = self._processes[crew.name] = await anyio.open_process(
                crew.command(plan),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=_ROOT,
                env=environment,
            )
        with anyio.move_on_after(self.scale.deaths(crew.generation)[1] + 20):
            return await process.wait()
        if not self._quiet:  # the step that it was to die at did not come up
            with suppress(ProcessLookupError):  # it ends just now
                process.kill()
                self._tally.hit("supervisor killed: anywhere")
        return await process.wait()

    def _dealt(self, crew: Crew, number: int) -> list[Fault]:
        """Of what may befall this crew, what befell anybody least."""
        counts = self.counts()

        def rarest(cards: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
            if self._quiet:
                cards = [c for c in cards if c[1] in faults.LATE and not counts[Fault(*c, 0).name]]
            shuffled = self.ground.chance.sample(cards, len(cards))
            hit = {card: counts[Fault(*card, 0).name] for card in cards}
            return sorted(shuffled, key=lambda card: (hit[card], self._cards[card]))[:most]

        first = crew.generation == 0
        possible = [card for card in crew.deaths if first or card[1] != faults.EARLY[0]]
        early = [card for card in possible if card[1] == faults.EARLY[number % 3]]
        deaths = early if first and early else rarest(possible, 1)
        others = rarest(crew.others, 4)
        self._cards.update([*deaths, *others])
        return [self._fault(*card, crew.generation) for card in (*deaths, *others)]

    def _fault(self, what: str, step: str, generation: int) -> Fault:
        low, high = self.scale.deaths(generation)
        if what != faults.KILLED:  # while it lives
            low, high = 0, low / 2
        after = 0 if step in faults.EARLY else self.ground.chance.uniform(low, high)
        lasting = {faults.STALLED: self.scale.stalled, faults.REFUSED: self.scale.stalled}
        return Fault(what, step, after, lasting.get(what, 2))
