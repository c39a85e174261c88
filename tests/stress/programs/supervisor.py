"""One supervisor process with many sessions, some faults ahead of it, and no second thoughts.

    python -m tests.stress.programs.supervisor PLAN.json

A session that meets trouble which is not its end (a lost host, a full disk) is resumed until it
has ended; what the trouble was is tallied. Exit code 0: all have ended.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from optio_agents.errors import OptioAgentsError, SessionFailed, StoreError
from optio_agents.hosts.following.sent.inotify import Inotify
from optio_agents.hosts.host import make_host
from optio_agents.hosts.ssh.config import SSHConfig
from optio_agents.protocol.protocol import get_protocol
from optio_agents.supervision import Command
from optio_agents.supervision.supervise import supervise
from tests.stress.acts import acts, way_in
from tests.stress.faults import Schedule, Tally
from tests.stress.plans import FOR_NOW, Plan, Work
from tests.support.leaks import no_leaks
from tests.support.sessions.supervisor import FatefulStore, fetch_dies_by, lease_dies_by

AGENT = Path(__file__).with_name("agent.py")
_AGAIN, _LONGEST = 1.0, 10.0  # seconds between two attempts at a session in trouble
_STARTS = 8  # at once: those that a death takes along
_PATIENCE = 60.0  # seconds until another may begin in place of one in trouble
_log = logging.getLogger(__name__)
_PROTOCOL = get_protocol(caller_messages=True)


class Supervisor:
    def __init__(self, plan: Plan, store: FatefulStore, tally: Tally, fate: Schedule) -> None:
        self._plan, self._store, self._tally, self._fate = plan, store, tally, fate
        self._given = Path(plan.directory, "given").open("a", buffering=1)  # noqa: SIM115 - for life
        self._starting = anyio.Semaphore(_STARTS)
        self.left = list[str]()  # sessions that did not end

    async def run(self, ssh: SSHConfig | None) -> None:
        known = {session.id: session for session in await self._store.sessions()}
        async with anyio.create_task_group() as tasks:
            for work in self._plan.work:
                stored = known.get(work.session)
                if stored is None:
                    tasks.start_soon(self._begin, work, ssh)
                elif not stored.over:
                    tasks.start_soon(self._attend, work, ssh, True)
        self._given.close()

    async def _begin(self, work: Work, ssh: SSHConfig | None) -> None:
        await anyio.sleep(max(0, work.begins - time.time()))
        async with anyio.create_task_group() as tasks, self._starting:
            tasks.start_soon(self._attend, work, ssh, False)
            with anyio.move_on_after(_PATIENCE):
                while not work.begun:  # noqa: ASYNC110 - in files
                    await anyio.sleep(0.1)

    async def _attend(self, work: Work, ssh: SSHConfig | None, known: bool) -> None:
        pause = _AGAIN
        while True:
            try:
                return await self._supervised(work, ssh, known)
            except SessionFailed:
                return None  # how it ended stands in the journal
            except (OptioAgentsError, OSError) as error:
                self._tally.hit(f"trouble: {type(error).__name__}")
                _log.exception("%s is in trouble", work.session)
            except Exception:
                _log.exception("%s met a bug", work.session)
                break
            await anyio.sleep(pause)
            pause = min(_LONGEST, pause * 1.1)
            known = await self._known(work.session, known)
        self.left.append(work.session)
        return None

    async def _known(self, session: str, known: bool) -> bool:
        try:
            return any(stored.id == session for stored in await self._store.sessions())
        except OptioAgentsError:
            return known

    async def _supervised(self, work: Work, ssh: SSHConfig | None, known: bool) -> None:
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "STRESS": self._plan.run}
        argv = (sys.executable, "-I", "-S", str(AGENT), json.dumps(work.agent))
        spec = Command(argv, env=environment, env_base="empty")
        what: dict[str, Any] = {"agent": spec, "session": work.session, "protocol": _PROTOCOL}
        async with make_host(ssh, taskdir=work.taskdir) as host:
            await supervise(
                host,
                store=self._store,
                on_deliverable_file=partial(self._receive, work.session),
                on_caller_message=self._answer,
                **({"resume": work.session} if known else what),
            )

    async def _receive(self, session: str, _: Any, deliverable: Any) -> None:
        self._fate("fetched before judged")
        assert hashlib.sha256(deliverable.read_bytes()).hexdigest() == deliverable.sha256
        self._given.write(f"{session} {deliverable.path} {deliverable.sha256}\n")

    async def _answer(self, _: Any, keyword: str, data: Any) -> str:
        return f"answer {data['n']}"


async def main(plan: Plan) -> int:
    tally = Tally(Path(plan.directory, "tally"))
    async with no_leaks(), way_in(plan) as (ssh, proxy):
        fate = Schedule(plan.faults, acts(proxy), tally)
        FatefulStore.fate = fate
        lease_dies_by(fate, renewed=20.0)
        fetch_dies_by(fate)
        async with FatefulStore(Path(plan.journal)) as store:
            supervisor = Supervisor(plan, store, tally, fate)
            await supervisor.run(ssh)
    _log.warning("all ended but %s", supervisor.left)
    return 1 if supervisor.left else 0


def look_around(tally: Tally) -> None:
    """Say what this process lacks from the start."""
    try:
        Inotify().close()
    except OSError:
        tally.hit("inotify exhausted")
    offsets = Path("/proc/self/timens_offsets")
    if offsets.exists() and set(offsets.read_text().split()) - {"monotonic", "boottime", "0"}:
        tally.hit("another monotonic clock")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 256:
        tally.hit("descriptors few")


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    given = Plan.load(Path(sys.argv[1]))
    if given.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given.descriptors, given.descriptors))
    look_around(Tally(Path(given.directory, "tally")))
    try:
        sys.exit(anyio.run(main, given))
    except StoreError:
        Tally(Path(given.directory, "tally")).hit("trouble: StoreError")
        sys.exit(FOR_NOW)
