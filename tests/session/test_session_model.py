"""Random schedules of lines, ends, callbacks, cancellation and faults, against a small model."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from optio_agents.errors import EndSession, SessionFailed
from optio_agents.hosts import make_host
from optio_agents.session import run_log_protocol_session
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.hosts import ssh_config
from tests.support.sessions.sessions import FlaggedContext, append, hand_over, write
from tests.support.timeouts import BOUND

_DRAWN_A_ROUND = 12
_AT_ONCE = 6


class BodyRaised(Exception):
    """What a body raises in here."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What an agent, its callbacks and its caller do."""

    steps: tuple[str, ...]  # status, chatter, file, missing, done, error, pause, cancel, replace
    end: str  # of the body: return, raise, stay
    callbacks: tuple[str, ...]  # for one file after the other: ok, revise, raise, slow, end
    newline: bool  # behind the last line

    @classmethod
    def draw(cls, dice: random.Random) -> Schedule:
        weights = {
            "status": 6,
            "chatter": 3,
            "file": 5,
            "missing": 2,
            "pause": 4,
            "done": 2,
            "error": 1,
            "cancel": 0.4,
            "replace": 1,
        }
        steps = dice.choices(list(weights), list(weights.values()), k=dice.randrange(1, 14))
        callbacks = dice.choices(["ok", "revise", "raise", "slow", "end"], [8, 2, 2, 3, 2], k=14)
        ends = dice.choices(["return", "raise", "stay"], [6, 1, 3])
        # A body that stays must be ended by something.
        if ends == ["stay"] and not {"done", "error", "cancel"} & set(steps):
            steps.append(dice.choice(["done", "error", "cancel"]))
        return cls(tuple(steps), ends[0], tuple(callbacks), dice.random() < 0.8)


ONE_OF_EACH = {  # by chance alone one in 140 runs would miss an outcome
    "done": Schedule(("status", "file", "done"), "return", ("ok",) * 14, newline=True),
    "error": Schedule(("status", "file", "error"), "return", ("ok",) * 14, newline=True),
    "exited": Schedule(("status", "file"), "return", ("ok",) * 14, newline=False),
    "failed": Schedule(("status", "file"), "raise", ("ok",) * 14, newline=True),
    "cancelled": Schedule(("status", "cancel"), "stay", (), newline=True),
    "ended by hook": Schedule(("status", "file", "done"), "return", ("end",) * 14, newline=True),
}


@dataclass(slots=True)
class Trace:
    """What really happened."""

    lines: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    cancelled: bool = False
    ended_by: bool = False
    after: int = 0

    @property
    def ending(self) -> str | None:
        return next((line for line in self.lines if line in ("DONE", "ERROR")), None)

    @property
    def announced(self) -> list[str]:
        """What counts: on ERROR only what stood before it."""
        lines = self.lines
        if self.ending == "ERROR":
            lines = lines[: lines.index("ERROR")]
        return [line.split("/")[-1] for line in lines if line.startswith("DELIVERABLE")]


def allowed(schedule: Schedule, trace: Trace) -> set[str]:
    """The outcomes that are true of this trace."""
    if trace.ending is not None:
        usual = {"DONE": "done", "ERROR": "error"}[trace.ending]
    else:
        usual = "failed" if schedule.end == "raise" else "exited"
    outcomes = {usual}
    if trace.ended_by:
        outcomes = {"ended by hook"} if usual == "done" else {usual, "ended by hook"}
    if trace.cancelled:
        outcomes.add("cancelled")
    return outcomes


class Play:
    """One session that follows a schedule."""

    def __init__(self, schedule: Schedule, ctx: FlaggedContext) -> None:
        self.schedule, self.ctx, self.trace = schedule, ctx, Trace()
        self.files = 0

    async def body(self, host: Any, _: Any) -> None:
        for number, step in enumerate(self.schedule.steps):
            last = number == len(self.schedule.steps) - 1 and self.schedule.end != "stay"
            end = "" if last and not self.schedule.newline else "\n"
            await self.step(host, step, number, end)
        match self.schedule.end:
            case "raise":
                raise BodyRaised
            case "stay":
                await anyio.sleep_forever()

    async def step(self, host: Any, step: str, number: int, end: str) -> None:
        match step:
            case "status":
                self.say(host, f"STATUS: {number}", end)
            case "chatter":
                self.say(host, f"chatter {number}", end)
            case "file":
                hand_over(host, f"{number}.txt", f"content {number}", announce=False)
                self.say(host, f"DELIVERABLE: deliverables/{number}.txt", end)
            case "missing":
                self.say(host, f"DELIVERABLE: deliverables/missing{number}", end)
            case "done" | "error":
                self.say(host, step.upper(), end)
            case "pause":
                await anyio.sleep(0.005)
            case "cancel":
                self.trace.cancelled = True
                self.ctx.cancellation_flag.set()
            case "replace":
                await self.replace(host)

    def say(self, host: Any, line: str, end: str) -> None:
        self.trace.lines.append(line)
        write(host, line, end=end)

    async def replace(self, host: Any) -> None:
        """An editor writes a new file with all earlier lines."""
        await host.run_command("cp optio.log new && mv new optio.log")

    async def on_deliverable(self, _: Any, path: str, text: str) -> str | None:
        assert text == f"content {path.removesuffix('.txt')}"
        what = self.schedule.callbacks[len(self.trace.called)]
        self.trace.called.append(path)
        match what:
            case "revise":
                return "again, please"
            case "raise":
                raise ValueError("a callback of the caller")
            case "slow":
                await anyio.sleep(0.02)
            case "end":
                self.trace.ended_by = True
                raise EndSession("enough")
        return None

    async def agent_sender(self, text: str) -> None:
        if "no newline at its end" in text:  # said to one that was starved in the midst of a line
            return
        self.trace.sent.append(text.split()[2].rstrip(":").removeprefix("deliverables/"))

    async def after(self, _: Any) -> None:
        self.trace.after += 1

    async def run(self, host: Any) -> str:
        given = {"on_deliverable": self.on_deliverable, "agent_sender": self.agent_sender}
        try:
            result = await run_log_protocol_session(
                host, self.ctx, body=self.body, after_execute=self.after, body_grace=0.3, **given
            )
        except SessionFailed as failure:
            result = failure.result
        except BodyRaised:
            self.check("failed", None)
            return "failed"
        self.check(result.outcome, result)
        return str(result.outcome)

    def check(self, outcome: str, result: Any) -> None:
        trace = self.trace
        told = f"{self.schedule}\n{trace}\n{outcome}"
        assert outcome in allowed(self.schedule, trace), told
        assert trace.after == 1, told
        assert trace.sent == trace.announced[: len(trace.sent)], told
        if outcome in ("done", "error"):
            assert trace.sent == trace.announced, told
        if outcome == "done":
            said = [line for line in trace.lines if line.startswith(("STATUS", "chatter"))]
            others = ("Deliverable", "ERROR", "DONE")
            heard = [m for m in self.ctx.messages if not m.startswith(others)]
            assert heard == [line.removeprefix("STATUS: ") for line in said], told
        if result is not None:
            assert result.abandoned == (), told
            assert result.skipped == 0, told


@pytest.mark.timeout(900)  # for as many rounds as are asked for
async def test_every_schedule_ends_as_the_model_says(sessions, chance):
    dice = [random.Random(f"{chance.seed} {n}") for n in range(chance.rounds * _DRAWN_A_ROUND)]
    schedules = [*ONE_OF_EACH.values(), *map(Schedule.draw, dice)]

    async def one(schedule: Schedule) -> None:
        async with sessions.host() as host:
            chance.hit(await Play(schedule, FlaggedContext()).run(host))

    with anyio.fail_after(2 * chance.rounds + BOUND):
        for first in range(0, len(schedules), _AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for schedule in schedules[first : first + _AT_ONCE]:
                    tasks.start_soon(one, schedule)
    assert set(chance.hits) == set(ONE_OF_EACH)


FAULTS = ("before the log", "between lines", "before an announcement", "in a fetch", "at the end")


class FaultyPlay:
    """A session whose link breaks once, at a named step; the agent goes on meanwhile."""

    def __init__(self, fault: str, proxy: FaultProxy, chance: Any) -> None:
        self.fault, self.proxy, self.chance = fault, proxy, chance
        self.refuses = chance.random.random() < 0.5
        self.ctx = FlaggedContext()
        self.got: list[tuple[str, int]] = []

    async def at(self, step: str) -> None:
        if step != self.fault:
            return
        self.chance.hit(f"{step}{' and refused' if self.refuses else ''}")
        if step == "in a fetch":
            self.proxy.on_bytes(300_000, source="server", then=self.proxy.cut)
            return
        if self.refuses:
            self.proxy.refuse()
        self.proxy.cut()
        await anyio.sleep(0.1)  # the outage
        self.proxy.accept()

    async def body(self, host: Any, _: Any) -> None:
        await self.at("before the log")
        write(host, "STATUS: one")
        await self.ctx.until(lambda: "one" in self.ctx.messages)
        append(host, b"STATUS: tw")
        await self.at("between lines")
        append(host, b"o\n")
        await self.at("before an announcement")
        await self.at("in a fetch")
        hand_over(host, "big.bin", b"0123456789abcdef" * 200_000)
        hand_over(host, "small.txt", "small")
        await self.at("at the end")
        write(host, "STATUS: three", "DONE")

    async def on_file(self, _: Any, file: Any) -> None:
        self.got.append((file.path, file.size))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_link_changes_no_outcome(fault, ssh_login, sshd, chance, tmp_path):
    for number in range(max(1, chance.rounds // 10)):
        with anyio.fail_after(BOUND):
            async with FaultProxy(sshd.host, sshd.port) as proxy:
                play = FaultyPlay(fault, proxy, chance)
                config = ssh_config(ssh_login(port=proxy.port))
                async with make_host(config, taskdir=str(tmp_path / f"task{number}")) as host:
                    result = await run_log_protocol_session(
                        host, play.ctx, body=play.body, on_deliverable_file=play.on_file
                    )
        assert result.outcome == "done"
        assert play.got == [("big.bin", 3_200_000), ("small.txt", 5)]
        heard = [m for m in play.ctx.messages if not m.startswith("Deliverable")]
        assert heard == ["one", "two", "three"]


async def test_a_host_that_stays_away_is_unreachable_and_says_how_to_go_on(
    ssh_login, sshd, tmp_path
):
    from optio_agents.errors import HostUnreachable

    ctx = FlaggedContext()
    async with FaultProxy(sshd.host, sshd.port) as proxy:
        config = ssh_config(ssh_login(port=proxy.port))

        async def body(host, _):
            write(host, "STATUS: last words")
            await ctx.until(lambda: "last words" in ctx.messages)
            proxy.refuse()
            proxy.cut()
            await anyio.sleep_forever()

        with anyio.fail_after(BOUND):
            host = make_host(config, taskdir=str(tmp_path / "task"))
            await host.connect()
            with pytest.raises(HostUnreachable, match="last words") as failure:
                await run_log_protocol_session(host, ctx, body=body, lost_after=1)
            proxy.accept()
            with suppress(Exception):
                await host.disconnect()
    assert failure.value.result.outcome == "unreachable"
    assert f"resume session {failure.value.result.session}" in str(failure.value)
