"""What tests of supervisors share: who watches, where they sit, and those in other processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.hosts.host import Host, make_host
from optio_agents.store import Store
from optio_agents.supervision import Claude, events as happened
from optio_agents.supervision.sessions import host_of
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.scripted import scripted_agent
from tests.support.hosts.hosts import Ground
from tests.support.proc import kill, tagged
from tests.support.sessions.supervisor import Given, Plan, line_of

PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


class Watching:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[happened.SessionEvent] = []
        self._came = anyio.Event()

    def __call__(self, seen: happened.SessionEvent) -> None:
        self.seen.append(seen)
        self._came.set()
        self._came = anyio.Event()

    def of(self, kind: type[Any]) -> list[Any]:
        return [seen for seen in self.seen if isinstance(seen, kind)]

    @property
    def lines(self) -> list[str]:
        return [line_of(seen.event) for seen in self.of(happened.LogLine)]

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self._came.wait()


async def agents_end(store: Store, session: str) -> Any:
    """How the agent of *session* has ended, once it has."""
    async with host_of(await store.session(session)) as host, agents.adopt(host) as agent:
        agent.detach()
        return await agent.wait()


class Office:
    """Where somebody supervises: journals, and task directories of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.taskdir = str(directory / "task")

    @asynccontextmanager
    async def store(self, name: str = "journal") -> AsyncIterator[Store]:
        async with Store(self.directory / name / "j.sqlite3") as store:
            yield store

    def host(self, workdir: str | None = None) -> Host:
        return make_host(taskdir=self.taskdir, workdir=workdir)

    def heard(self) -> list[str]:
        return Path(self.taskdir, "session/stdout").read_text().splitlines()

    def first_input(self) -> str:
        (message,) = Path(self.taskdir, "session").glob("*/*-prompt")
        return message.read_text()

    def tag(self) -> str:
        return Path(self.taskdir, "session/tag").read_text().strip()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


class Case:
    """A ground, the journal of the supervisors on our side, and their processes."""

    def __init__(self, ground: Ground, directory: Path) -> None:
        self.ground, self.directory = ground, directory
        self.children: list[subprocess.Popen[str]] = []
        directory.mkdir(exist_ok=True)

    def plan(self, *steps: str, step: str = "", occurrence: int = 1) -> Plan:
        ssh = self.ground.ssh
        names = ("host", "user", "port", "key_path", "known_hosts", "config", "agent_path")
        spec = {"kind": "command", "argv": scripted_agent(*steps), "env": PLAIN}
        return Plan(
            str(self.directory),
            self.taskdir,
            {**spec, "env_base": "empty"},
            ssh=None if ssh is None else {name: getattr(ssh, name) for name in names},
            step=step,
            occurrence=occurrence,
        )

    def plan_for(self, spec: Claude) -> Plan:
        return replace(self.plan(), spec={"kind": "claude", **asdict(spec)})

    @property
    def taskdir(self) -> str:
        return str(self.ground.directory / "task")

    def start(self, plan: Plan) -> subprocess.Popen[str]:
        with (self.directory / "stderr").open("w") as words:
            child = subprocess.Popen(
                plan.run(),
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                cwd=Path(__file__).parents[3],
            )
        self.children.append(child)
        return child

    async def says(self, child: subprocess.Popen[str], beginning: str) -> None:
        """Wait until *child* has printed such a line."""
        assert child.stdout is not None
        while line := await asyncio.to_thread(child.stdout.readline):
            if line.startswith(beginning):
                return
        raise AssertionError(f"it ended without a word of {beginning!r}")

    async def dies(self, plan: Plan) -> None:
        child = self.start(plan)
        said, _ = await asyncio.to_thread(child.communicate)
        words = (self.directory / "stderr").read_text()
        assert child.returncode == -signal.SIGKILL, f"it lived: {said}\n{words}"

    async def resume(self, store: Store, **more: Any) -> Any:
        given = Given(str(self.directory))
        return await supervise(
            None,
            resume="s1",
            store=store,
            on_deliverable_file=given.on_deliverable_file,
            on_caller_message=given.on_caller_message,
            **more,
        )

    def let_go(self) -> None:
        """End the wait of agents that wait for us."""
        Path(self.taskdir, "workdir/go").touch()

    def tags(self) -> list[str]:
        """Of every agent that was started below our directory."""
        return [tag.read_text().strip() for tag in self.ground.directory.glob("**/session/tag")]

    def file(self, name: str) -> Path:
        return Path(self.taskdir, "session", name)


@pytest.fixture
def case(ground: Ground, tmp_path: Path) -> Iterator[Case]:
    made = Case(ground, tmp_path / "ours")
    yield made
    for child in made.children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    left = [process for tag in made.tags() for process in tagged(tag)]
    kill(*left)
    assert not left, f"left running: {left}"
