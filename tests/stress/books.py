"""What everybody wrote down, compared: the agents, whoever spoke to them, the store, /proc."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optio_agents.store import Store, StoredSession
from tests.stress.circumstances import Ground
from tests.stress.crews import Crew
from tests.stress.plans import Work
from tests.support import proc
from tests.support.timeouts import BOUND

_ALL = 1_000_000
# A near miss of a keyword, and a line that stood unfinished for a while, earn one hint each.
_HINTS = "System: your line", "System: the last line of optio.log has no newline"
_OUTCOMES = {"DONE": ("done", 0, None), "ERROR": ("error", None, None), "exit": ("exited", 3, None)}
_KILLED = ("exited", 137, "KILL")


@dataclass
class Ledger:
    """What an agent wrote down."""

    entries: list[tuple[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Ledger:
        text = path.read_text() if path.exists() else ""
        return cls([tuple(json.loads(line)) for line in text.splitlines()])

    def all(self, kind: str) -> list[Any]:
        return [what for which, what in self.entries if which == kind]

    @property
    def unfinished(self) -> str | None:
        """The line of which nobody knows how much was taken."""
        tried, took = self.all("try"), self.all("took")
        return tried[-1] if len(tried) > len(took) else None


@dataclass
class Totals:
    sessions: Counter[str] = field(default_factory=Counter)  # by outcome
    figures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def balance(ground: Ground, said: dict[str, list[str]]) -> Totals:
    totals = Totals()
    for crew in ground.crews:
        async with Store(crew.journal) as store:
            known = {stored.id: stored for stored in await store.sessions()}
            for work in crew.work:
                account = _Account(work, crew, said.get(work.session, []), totals)
                await account.balance(store, known.get(work.session))
    totals.wrong += [f"still running: {found}" for found in left_running(ground)]
    return totals


class _Account:
    """The books of one session."""

    def __init__(self, work: Work, crew: Crew, said: Sequence[str], totals: Totals) -> None:
        self._work, self._said, self._totals = work, said, totals
        self._ledger = Ledger.read(Path(work.agent["ledger"]))
        self._given = crew.directory / "given"  # what callbacks were shown
        self._short = crew.descriptors is not None

    async def balance(self, store: Store, stored: StoredSession | None) -> None:
        if stored is None or stored.result is None:
            return self._say("it has no end", self._ledger.entries[-1:])
        agent = stored.result["agent"]
        never = agent["how"] == "never-started"
        self._totals.sessions["never started" if never else stored.outcome or "none"] += 1
        if never:  # its supervisor was killed on the way there
            return self._same("an agent that never started", self._ledger.entries, [])
        self._check_outcome(stored.outcome, agent)
        lines = await self._check_lines(store)
        replies = await self._check_files(store, lines)
        answers = [_answer(line) for line in lines if line.startswith("CALLER_MESSAGE")]
        self._check_input(Counter([*replies, *answers, *self._said]))
        return None

    def _check_outcome(self, outcome: str | None, agent: dict[str, Any]) -> None:
        ending = self._work.agent["ending"]
        expected = _OUTCOMES.get(ending, _KILLED)
        found = outcome, agent["exit_code"], agent["signal"]
        # It was stopped, or faster than that, with its last word said; or the link was down then.
        stopped = agent["how"] == "unknown" or agent["signal"] == "TERM"
        if ending == "ERROR" or (ending == "DONE" and stopped):
            expected, found = expected[:1], found[:1]  # type: ignore[assignment]
        self._same(f"outcome of an agent that {ending}", found, expected)

    async def _check_lines(self, store: Store) -> list[str]:
        every = await store.events(self._work.session, most=_ALL)
        self._same("numbers", [event.number for event in every], list(range(1, len(every) + 1)))
        events = [event for event in every if event.is_line]
        lines = [event.entry.line for event in events]
        took, rest = self._ledger.all("took"), self._ledger.unfinished
        self._totals.figures["lines that write(2) took"] += len(took)
        self._totals.figures["events recorded"] += len(lines)
        if rest is not None and len(lines) > len(took):
            whole = rest.startswith(lines[-1].rstrip("\ufffd"))
            self._same("the line that was broken off", whole, True)
            self._totals.figures["more that it took when it killed their writer"] += 1
            lines = lines[:-1]
        self._same("lines", lines, took)
        offsets = [event.entry.offset for event in events]
        self._same("the order of lines", offsets, sorted(set(offsets)))
        self._same("lines without their turn", [e for e in events if not e.done], [])
        return [event.entry.line for event in events]

    async def _check_files(self, store: Store, lines: Sequence[str]) -> list[str]:
        """Returns what the agent is told about its files."""
        announced = [line.rpartition("/")[2] for line in lines if line.startswith("DELIVERABLE")]
        deliveries = await store.deliveries(self._work.session)
        self._totals.figures["deliverables announced"] += len(announced)
        self._totals.figures["deliverables answered"] += sum(bool(d.reply) for d in deliveries)
        self._same("deliveries", [d.path for d in deliveries], announced)
        digests, given = dict(self._ledger.all("file")), set(self._given.read_text().splitlines())
        for delivery in deliveries:
            # Without descriptors a callback, too, may fail at a file that was fetched.
            excused = delivery.sha256 is None or self._short
            trouble = excused and "trouble" in (delivery.reply or "")
            if not trouble:
                self._same(delivery.path, delivery.sha256, digests[delivery.path])
                self._same("a verdict", delivery.reply, f"deliverable {delivery.path}: accepted.")
                shown = f"{self._work.session} {delivery.path} {delivery.sha256}" in given
                self._same(f"{delivery.path} shown to a callback", shown, True)
            if not self._died:
                self._same(f"{delivery.path} taken", delivery.taken, True)
        return [f"System: {delivery.reply}" for delivery in deliveries]

    def _check_input(self, said: Counter[str]) -> None:
        """*said* is in the agent's input once, each; what a killed agent left there, at most."""
        heard, words = Counter(self._ledger.all("heard")), self._work.agent["words"]
        hints = Counter({line: n for line, n in heard.items() if line.startswith(_HINTS)})
        self._same("hints", hints.total() <= len(_HINTS), True)
        heard -= hints
        self._totals.figures["messages said"] += said.total()
        self._totals.figures["messages heard"] += heard.total()
        self._same("heard and not said, or too often", heard - said - Counter(words), Counter())
        unheard = said - heard
        self._totals.figures["messages that a killed agent did not hear"] += unheard.total()
        if not self._died:
            self._same("said and not heard", unheard, Counter())
            self._same(
                "words", [word for word in self._ledger.all("heard") if word in words], words
            )

    @property
    def _died(self) -> bool:
        return bool(self._ledger.all("dies"))

    def _same(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self._say(what, found, expected)

    def _say(self, what: str, *values: object) -> None:
        shown = " instead of ".join(str(value)[:600] for value in values)
        self._totals.wrong.append(f"{self._work.session}: {what}: {shown}")


def _answer(line: str) -> str:
    """What the harness says to a caller message."""
    _, _, payload = line.partition(": ask ")
    return f"System: answer {json.loads(payload)['n']}"


def left_running(ground: Ground, within: float = BOUND) -> list[proc.Process]:
    """Processes of this run that did not end."""
    deadline = time.monotonic() + within
    while (left := ground.running()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
