"""A supervisor in a process of its own, which ends itself with SIGKILL at a named step.

    python -m tests.support.sessions.supervisor PLAN.json

The steps are those of the promise about delivery; nothing in the library knows them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from optio_agents.agents import Agent, lease as agent_owner
from optio_agents.hosts.host import Host, make_host
from optio_agents.hosts.ssh.config import SSHConfig
from optio_agents.protocol.events import (
    AttentionEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    StatusEvent,
    UnknownLine,
)
from optio_agents.protocol.protocol import get_protocol
from optio_agents.store import SessionJournal, Store
from optio_agents.supervision import Claude, Command, events as happened
from optio_agents.supervision.kinds import AgentSpec
from optio_agents.supervision.supervise import supervise

# ruff: noqa: T201  # what it prints is what the test waits for

STEPS = (
    "added before start",
    "started before owned",
    "owned before read",
    "linked before recorded",
    "recorded before handed over",
    "handed over before marked",
    "marked",
    "mid-fetch",
    "fetched before judged",
    "judged before said",
    "said before noted",
    "checked before decided",
    "decided before said",
    "restart recorded",
    "forgotten before started again",
    "tagged before started again",
    "before a lease touch",
    "after a lease touch",
    "before the end is written",
    "after the end is written",
)


@dataclass(frozen=True)
class Plan:
    """What the process does, and at which occurrence of which step it dies; "" is never."""

    directory: str  # of the journal, and of what the callbacks were given
    taskdir: str
    spec: dict[str, Any]
    ssh: dict[str, Any] | None = None
    step: str = ""
    occurrence: int = 1
    session: str = "s1"
    options: dict[str, Any] = field(default_factory=dict)  # further ones, for `supervise`
    serves: bool = False  # a tool of ours, whose call never ends

    def run(self) -> list[str]:
        """The command line that carries it out."""
        path = Path(self.directory, "plan.json")
        path.write_text(json.dumps(self.__dict__))
        return [sys.executable, "-m", "tests.support.sessions.supervisor", str(path)]


class Fate:
    """Kills us when the step comes up for the last time."""

    def __init__(self, step: str, occurrence: int) -> None:
        self._step, self._left, self.hits = step, occurrence, Counter[str]()

    def __call__(self, step: str) -> None:
        assert step in STEPS, step
        self.hits[step] += 1
        if step == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FatefulJournal(SessionJournal):
    fate: Callable[[str], None]
    restarting = False  # a further start of the agent was recorded

    async def start(self) -> Any:
        self.fate("owned before read")
        return await super().start()

    async def record(self, entries: Any, cursor: Any, digests: bytes) -> None:
        self.fate("linked before recorded")
        await super().record(entries, cursor, digests)
        self.fate("recorded before handed over")

    async def mark_done(self, entries: Any) -> None:
        self.fate("handed over before marked")
        await super().mark_done(entries)
        self.fate("marked")

    async def deliver(self, delivery: Any) -> None:
        if delivery.taken is not None:
            self.fate("said before noted")
        await super().deliver(delivery)
        if delivery.taken is None:
            self.fate("judged before said")

    async def decide(self, entry: Any, reply: str) -> None:
        self.fate("checked before decided")
        await super().decide(entry, reply)
        self.fate("decided before said")

    def append(self, event: Any, state: Any = None) -> Any:
        kept = super().append(event, state)
        if event.kind == "restart":
            self.restarting = True
            kept.add_done_callback(lambda _: self.fate("restart recorded"))
        return kept

    async def note(self, kind: str, key: str, value: Any) -> None:
        await super().note(kind, key, value)
        if kind == "start" and self.restarting and not value["process"]:
            before = "tagged" if value["tag"] else "forgotten"
            self.fate(f"{before} before started again")

    async def end(self, result: Any) -> None:
        self.fate("before the end is written")
        await super().end(result)
        self.fate("after the end is written")


class FatefulStore(Store):
    fate: Callable[[str], None]

    async def add(self, session: Any) -> None:
        await super().add(session)
        self.fate("added before start")

    def journal(self, session: str, secrets: Any = None) -> SessionJournal:
        journal = super().journal(session, secrets)
        journal.__class__ = FatefulJournal
        journal.fate = self.fate  # type: ignore[attr-defined]
        return journal


def fetch_dies_by(fate: Callable[[str], None]) -> None:
    fetch: Callable[..., Any] = Host.fetch_file

    async def fetch_file(*args: Any, **options: Any) -> Any:
        def progress(*_: Any) -> None:
            fate("mid-fetch")

        return await fetch(*args, **options, progress=progress)

    Host.fetch_file = fetch_file  # type: ignore[method-assign]


def lease_dies_by(fate: Callable[[str], None], renewed: float = 0.05) -> None:
    own: Callable[..., Any] = Agent.own
    confirm: Callable[..., Any] = agent_owner.Lease.confirm

    def owned(*args: Any, **options: Any) -> Any:
        fate("started before owned")
        return own(*args, **options)

    async def confirmed(lease: agent_owner.Lease) -> None:
        fate("before a lease touch")
        await confirm(lease)
        fate("after a lease touch")

    Agent.own = owned  # type: ignore[method-assign]
    agent_owner.Lease.confirm = confirmed  # type: ignore[method-assign]
    agent_owner._RENEWED = renewed  # noqa: SLF001 - nobody here waits for twenty seconds


def spec_of(data: dict[str, Any]) -> AgentSpec:
    kind = Claude if data["kind"] == "claude" else Command
    return kind(**{name: value for name, value in data.items() if name != "kind"})


class Given:
    """What the callbacks were given, by any supervisor of the session, as lines of a file."""

    def __init__(self, directory: str, fate: Fate | None = None) -> None:
        self._path, self._fate = Path(directory, "given"), fate

    async def on_deliverable_file(self, _: Any, deliverable: Any) -> None:
        if self._fate is not None:
            self._fate("fetched before judged")
        self._keep(f"{deliverable.path} {deliverable.sha256} {deliverable.id}")

    async def on_caller_message(self, _: Any, keyword: str, data: Any) -> str:
        self._keep(f"{keyword} {json.dumps(data)}")
        return f"answer to {keyword}"

    def _keep(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{line}\n")

    @property
    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


def line_of(event: LogEvent) -> str:
    """The line that says it."""
    match event:
        case StatusEvent(percent, message):
            return f"STATUS: {message}" if percent is None else f"STATUS: {percent}% {message}"
        case DeliverableEvent(path):
            return f"DELIVERABLE: {path}"
        case DoneEvent(text):
            return "DONE" if text is None else f"DONE: {text}"
        case ErrorEvent(text):
            return "ERROR" if text is None else f"ERROR: {text}"
        case AttentionEvent(reason):
            return f"ATTENTION: {reason}"
        case UnknownLine(text):
            return text
        case _:
            return repr(event)


async def weather(city: str) -> str:
    """How it is there."""
    print("called for", city, flush=True)
    await anyio.sleep_forever()
    raise AssertionError


async def main(plan: Plan) -> None:
    fate = Fate(plan.step, plan.occurrence)
    FatefulStore.fate = fate
    lease_dies_by(fate)
    fetch_dies_by(fate)
    given = Given(plan.directory, fate)
    ssh = SSHConfig(**plan.ssh) if plan.ssh is not None else None

    def see(seen: happened.SessionEvent) -> None:
        match seen:
            case happened.LogLine(event):
                print("line", line_of(event), flush=True)
            case happened.RequestOpened(request):
                print("asked", request.id, flush=True)

    options: dict[str, Any] = {
        "on_deliverable_file": given.on_deliverable_file,
        "on_caller_message": given.on_caller_message,
        "observer": see,
    }
    if plan.serves:
        options["tools"] = [weather]
    if plan.spec["kind"] == "resume":
        options["resume"] = plan.session
    else:
        protocol = get_protocol(caller_messages=True)
        options |= {"agent": spec_of(plan.spec), "session": plan.session, "protocol": protocol}
    async with (
        FatefulStore(Path(plan.directory, "j.sqlite3")) as store,
        make_host(ssh, taskdir=plan.taskdir) as host,
    ):
        options |= plan.options
        result = await supervise(host, store=store, **options)
    print("outcome", result.outcome, *sorted(fate.hits), sep="\t", flush=True)


if __name__ == "__main__":
    anyio.run(main, Plan(**json.loads(Path(sys.argv[1]).read_text())))
