"""Count how far five everyday things travel through our code, over a real sshd.

    python -m tests.support.trips [NAME …]

A line per trip: the calls (a coroutine that goes on counts as one), the functions and files they
are in, the moves from file to file, and how many of them returned to a file left before; behind
them the bar that `tests/test_trips.py` holds. Only the event loop's own thread is counted, from the
moment the thing happens until it has arrived, and nothing that happens meanwhile without carrying
it: what a timer does (how often it ticks says how long a trip took, not how far), and who else is
woken by the same news.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

import optio_agents
from optio_agents.conversation import PermissionDecision
from optio_agents.hosts import Host, make_host
from optio_agents.session import run_log_protocol_session
from optio_agents.store import Store
from optio_agents.supervision import Claude, Command
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.memory import MemoryContext
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.scripted import scripted_agent
from tests.support.claude.claude_cli import OFF, executable, journaled, surroundings
from tests.support.hosts.accounts import Accounts
from tests.support.hosts.agent_ground import until
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import RUN, SshLogin, SshServer, make_key
from tests.support.timeouts import BOUND

HOME = str(Path(optio_agents.__file__).parent)
PLAYED = f"{HOME}/testing/"  # stands for the world
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
QUIET = 0.4  # seconds in which nothing of ours is called: the start is over
TIMERS = {"SharedTimer._tick", "Waking._look"}
# Woken by an open request, each in a task of its own: the body, and who waits for other news.
BYSTANDERS = {"_run", "OwnerReach.notice", "ConversationLink.wait_out_limits"}


@dataclass
class Trip:
    """What was called between `begin` and `end`, in order."""

    steps: list[tuple[str, str]] = field(default_factory=list)  # file and function
    apart: set[str] = field(default_factory=set)  # who carries nothing
    task: asyncio.Task[Any] | None = None  # which alone counts
    over: bool = False
    passing: FrameType | None = None  # of one that carries nothing

    async def begin(self, *, alone: bool = False) -> None:
        """Count from here, where nothing of the start is under way any more.

        *alone*: only what this task does.
        """
        sys.setprofile(self._note)
        await anyio.sleep(QUIET)
        while len(self.steps) > 1:  # one may be what wakes us
            self.steps.clear()
            await anyio.sleep(QUIET)
        self.steps.clear()
        self.task = asyncio.current_task() if alone else None

    def end(self) -> None:
        self.over = True
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if self.passing is not None:
            self.passing = None if event == "return" and frame is self.passing else self.passing
        elif self.over or event != "call" or not code.co_filename.startswith(HOME):
            pass
        elif code.co_qualname in TIMERS | self.apart:
            self.passing = frame
        elif not code.co_filename.startswith(PLAYED) and self.task in (None, _current()):
            self.steps.append((code.co_filename, code.co_qualname))

    @property
    def length(self) -> int:
        """How many functions there are on the way."""
        return len(set(self.steps))

    def __str__(self) -> str:
        files = [file for file, _ in self.steps]
        moved = [after for before, after in itertools.pairwise(files) if before != after]
        known, returns = set(files[:1]), 0
        for file in moved:
            returns += file in known
            known.add(file)
        return (
            f"{len(self.steps):5} calls {self.length:4} functions {len(known):3} files "
            f"{len(moved):4} moves {returns:4} returns"
        )

    def functions(self) -> Iterator[str]:
        """Each function once, in the order met."""
        for file, name in dict.fromkeys(self.steps):
            yield f"{file.removeprefix(HOME + '/')}: {name}"


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # the loop is not running
        return None


@dataclass
class Place:
    """An account behind a real sshd."""

    root: Path
    login: SshLogin

    def host(self) -> Host:
        return make_host(ssh_config(self.login), taskdir=str(self.root / "task"))

    def append(self, line: str) -> None:
        with Path(self.root, "task/workdir/optio.log").open("a") as log:
            log.write(line + "\n")


async def log_line(place: Place) -> Trip:
    """A STATUS line, to `report_progress`."""
    trip, ctx = Trip(), MemoryContext()

    def report_progress(percent: float | None, message: str | None = None) -> None:
        if percent == 50:
            trip.end()
            arrived.set()
        else:
            begun.set()

    begun, arrived = anyio.Event(), anyio.Event()
    ctx.report_progress = report_progress  # type: ignore[method-assign]

    async def body(*_: Any) -> None:
        place.append("STATUS: 1% begun")
        await begun.wait()
        await trip.begin()
        place.append("STATUS: 50% half way")
        await arrived.wait()
        place.append("DONE")

    async with place.host() as host:
        await run_log_protocol_session(host, ctx, body=body)
    return trip


async def deliverable(place: Place) -> Trip:
    """A DELIVERABLE line, to its callback and to the reply in the agent's input."""
    trip = Trip()
    workdir = place.root / "task/workdir"

    def see() -> None:
        _wait_for(place.root / "task/session", "reply-")
        trip.over = True  # what follows on it is no part of the way

    async def on_deliverable(_: Any, path: str, text: str) -> str:
        return "more, please"

    async def announce() -> None:
        await until(lambda: "STATUS" in _read(workdir / "optio.log"))
        await trip.begin()
        place.append("DELIVERABLE: deliverables/a.txt")
        await anyio.to_thread.run_sync(see)
        trip.end()
        place.append("STATUS: go")

    steps = (
        "write a.txt hello",
        "STATUS: 1% ready",
        "run until grep -q go optio.log; do sleep 0.1; done",
        "DONE",
    )
    spec = Command(scripted_agent(*steps), env=PLAIN, env_base="empty")
    async with place.host() as host, anyio.create_task_group() as tasks:
        tasks.start_soon(announce)
        await supervise(host, spec, on_deliverable=on_deliverable)
    return trip


async def send(place: Place) -> Trip:
    """`conversation.send()`, without the events that come meanwhile: how many do is chance."""
    trip = Trip()
    async with ModelServer().serve() as api, place.host() as host:
        await host.setup_workdir()
        async with journaled(host, place.root, api) as talk:
            await talk.conversation.send(scripted({"text": "one"}))
            await talk.heard(lambda event: event["type"] == "result")
            await trip.begin(alone=True)
            await talk.conversation.send(scripted({"text": "two"}))
            trip.end()
    return trip


async def permission(place: Place) -> Trip:
    """A permission request, from the agent's output to the observer."""
    trip, _ = await _ask_and_answer(place)
    return trip


async def answer(place: Place) -> Trip:
    """Its answer from another terminal, until it shows as decided."""
    _, trip = await _ask_and_answer(place)
    return trip


async def _ask_and_answer(place: Place) -> tuple[Trip, Trip]:
    from optio_agents.supervision import find_session

    asked, decided = Trip(apart=BYSTANDERS), Trip()
    open_request, over = anyio.Event(), anyio.Event()

    def observe(seen: Any) -> None:
        match type(seen).__name__:
            case "Asked" | "RequestOpened":
                asked.end()
                open_request.set()
            case "Decided" | "RequestDecided":
                decided.end()
                over.set()

    async def decide(store: Store, api: ModelServer) -> None:
        await api.held("asks")
        await asked.begin()
        api.release("asks")
        await open_request.wait()
        (stored,) = await store.sessions()
        async with find_session(stored.id, store=store) as session:
            (found,) = session.requests
            await decided.begin()
            await session.answer(found, PermissionDecision("allow"), by="me")
            await over.wait()

    path = str(place.root / "task/workdir/made")
    steps = (
        {"tool": "Write", "input": {"file_path": path, "content": "x"}, "hold": "asks"},
        {"tool": "Bash", "input": {"command": "echo DONE >> optio.log"}},
        {"text": "That is all."},
    )
    async with (
        ModelServer().serve() as api,
        Store(place.root / "journal/j.sqlite3") as store,
        place.host() as host,
        anyio.create_task_group() as tasks,
    ):
        spec = Claude(
            scripted(*steps),
            allowed_tools=("Bash",),
            options=OFF,
            executable=executable(),
            env=surroundings(place.root, api),
            env_base="empty",
        )
        tasks.start_soon(decide, store, api)
        await supervise(host, spec, store=store, observer=observe)
    return asked, decided


TRIPS: tuple[Callable[[Place], Awaitable[Trip]], ...] = (
    log_line,
    deliverable,
    send,
    permission,
    answer,
)
BARS = {log_line: 40, deliverable: 115, send: 40, permission: 95}  # functions at the most


def walk(trip: Callable[[Place], Awaitable[Trip]]) -> Trip:
    """Take *trip* once, on a loop and to a server of its own."""
    with _place() as place:

        async def take() -> Trip:
            with anyio.fail_after(BOUND):
                return await trip(place)

        return asyncio.run(take())


@contextmanager
def _place() -> Iterator[Place]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optio-trips-")))
        home = root / "home"
        home.mkdir()
        key = make_key(root / "id_ed25519")
        if Path("/run").is_dir() and not Path("/run/sshd").exists():
            Path("/run/sshd").mkdir(mode=0o755)
        server = SshServer(root, key=key, home=home)
        stack.callback(server.close)
        server.start()
        known_hosts = root / "known_hosts"
        known_hosts.write_text(server.known_hosts)
        account = Accounts(home).me
        yield Place(
            root, SshLogin(server.host, server.port, account.user, key, known_hosts, account)
        )


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _wait_for(session: Path, beginning: str) -> None:
    deadline = time.monotonic() + BOUND  # a thread cannot be cancelled
    while not any(session.glob(f"in/{beginning}*")) and not any(session.glob(f"said/{beginning}*")):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {beginning}* came into {session}")
        time.sleep(0.0005)


def main(names: list[str]) -> None:
    os.environ.setdefault(RUN, f"trips-{os.getpid()}")  # as a run of the tests marks what it starts
    for trip in TRIPS:
        name = trip.__name__
        if names and name not in names:
            continue
        walked = walk(trip)
        bar = f", bar: {BARS[trip]} functions" if trip in BARS else ""
        print(f"{name:12}{walked}{bar}")  # noqa: T201
        if names:
            print(*walked.functions(), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
