"""The way in to one session: started, found again, taken up, and written down."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents import agents
from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.display import Secrets, visible
from optio_agents.errors import (
    AgentExited,
    AlreadyOwned,
    FileRefused,
    HostLost,
    StoreError,
)
from optio_agents.hosts.environment import credentials_in
from optio_agents.hosts.host import Host
from optio_agents.hosts.workdir import Worktree, new_worktree, open_channel, plan_worktree
from optio_agents.store import Store
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Ended, SessionResult, StoredSession, is_session_id

from .credentials import SEALED, credentials_of, seal, spec_of
from .events import Notice, SessionBegan
from .kinds import PROMPTED, SETUP, dump_spec, kind_named, teach
from .recording import Recording
from .sessions import (
    Facts,
    host_of,
    known_start,
    never_started,
    new_session_id,
    note_start,
    owner_name,
    stored_of,
    unseen,
)
from .supervisor import AgentDied, Supervision, SupervisionOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from optio_agents.agents import Agent
    from optio_agents.store.records import SessionRecords

    from .kinds import AgentSpec
    from .live import OwnedSession


_ENDING = 10.0  # seconds for writing down how it ended
_AGAIN = (
    "you have been resumed: your process died ({}) and was started again. Your files and your log "
    "are as you left them; see how far you came, and go on."
)


class WayIn:
    """To one session: where it is written down, and what was asked for."""

    def __init__(
        self,
        store: Store | None,
        live: OwnedSession,
        options: Callable[[Mapping[str, Any], Mapping[str, Any]], SupervisionOptions],
        rules: Mapping[str, Any],
    ) -> None:
        """*options*: for who was taught a protocol of such features, and was given such rules."""
        self._store, self._live, self._options, self._rules = store, live, options, rules

    async def begin(
        self,
        host: Host | None,
        spec: AgentSpec | None,
        *,
        session: str | None,
        title: str,
        name: str,
        branch: str | bool,
    ) -> SessionResult:
        if host is None or spec is None:
            raise ValueError("say on which host, and what to run there")
        options = self._options({}, {})
        session = session or new_session_id()
        await self._check_names(session, name)
        await kind_named(spec.kind).check(host, spec)
        worktree = None
        if branch:
            branch = branch if isinstance(branch, str) else f"optio/{session}"
            host, worktree = await plan_worktree(host, branch)
        hidden = credentials_in(spec.env)
        secrets = Secrets(hidden)
        facts = Facts.of(
            host,
            spec,
            title=secrets.hide(title),
            name=name,
            features=options.protocol.features,
            rules=self._rules,
            worktree=worktree,
        )
        stored = StoredSession(session, time.time(), host.machine.name, host.taskdir, asdict(facts))
        async with AsyncExitStack() as stack:
            recording = await stack.enter_async_context(
                self._recording(stored, secrets, options, resumed=False)
            )
            meta = {"id": session, "created_at": stored.created_at, **facts.for_the_host()}
            try:
                kept = dump_spec(spec) if options.restart else None
                meta[SEALED] = await seal(hidden, recording.records, spec=kept)
                login = await host.machine.login_environment() if spec.env_base == "login" else {}
                start = _started(host, spec, options, recording.records, meta, worktree=worktree)
                agent = await stack.enter_async_context(start)
            except HostLost:
                raise  # it may run there
            except Exception:
                recording.forgotten = True
                if self._store is not None:
                    await self._store.forget(session)
                raise
            try:
                await note_start(recording.records, agent.session, agent.process)
            except StoreError:
                agent.detach()  # it goes on, and can be found again
                raise
            if worktree is not None:
                words = f"it works on the branch {worktree.branch}, in {worktree.tree}"
                recording.post(Notice(words))
            if names := sorted(credentials_in(login).keys() - spec.env):
                recording.post(Notice(_withheld(names)))
            supervision = Supervision(host, facts, recording, options, self._live)
            return await _keep_alive(supervision, agent, spec)

    async def _check_names(self, session: str, name: str) -> None:
        """Raises ValueError where they cannot be, or are another's."""
        if not is_session_id(session):
            raise ValueError(f"{session!r} cannot be the id of a session")
        if name and not is_session_id(name):
            raise ValueError(f"{name!r} cannot be a session's name: use letters, digits, - and _")
        if self._store is None:
            return
        if await self._store.find(session) is not None:
            raise ValueError(f"there is a session {session} already: resume it, or name another")
        named = await self._store.named(name)
        if named is not None and not named.over:
            raise ValueError(f"session {named.id} has the name {name}, and is not over")

    async def resume(
        self, host: Host | None, spec: AgentSpec | None, session: str
    ) -> SessionResult:
        if spec is not None:
            raise ValueError("a session that is resumed has its agent already")
        store, stored = self._store, await self._known(host, session)
        async with AsyncExitStack() as stack:
            if stored is not None:
                there = host_of(stored, host.machine if host else None)
            elif host is not None:
                there = Host(host.machine, await host.path(session))
            else:
                raise ValueError("without a journal, say on which host the session is")
            if host is None:
                await stack.enter_async_context(there)
            try:
                start = await known_start(store, stored.id) if store and stored else None
                agent = await stack.enter_async_context(agents.adopt(there, start=start))
            except FileRefused as error:
                if store is None or stored is None or error.reason != "missing":
                    raise
                return await self._not_seen(stored, store, error)
            return await self._take_up(there, agent, stored)

    async def _take_up(
        self, host: Host, agent: Agent, stored: StoredSession | None
    ) -> SessionResult:
        in_good_hands = False
        try:
            if stored is None:
                stored = await _apart(self._store, stored_of(host, agent.meta))
                host = host_of(stored, host.machine)
            facts = Facts.read(stored.facts)
            options = self._options(facts.features or {}, facts.rules)
            past = self._records(stored.id, Secrets())
            values = await credentials_of(host, agent, facts.hidden, past)
            secrets = Secrets(values)
            async with self._recording(stored, secrets, options, resumed=True) as recording:
                if unknown := sorted(set(facts.hidden) - values.keys()):
                    words = "nobody can know the values of these any more, to hide them"
                    recording.post(Notice(f"{words}: {', '.join(unknown)}"))
                await note_start(recording.records, agent.session, agent.process)
                spec: Any = None
                if options.restart and (known := await spec_of(agent, recording.records)):
                    with suppress(TypeError, ValueError, KeyError):
                        spec = kind_named(facts.agent).restored(*known)
                if spec is None and options.restart:
                    recording.post(Notice("nobody knows how to start this agent again"))
                    options = replace(options, restart=0)
                supervision = Supervision(host, facts, recording, options, self._live)
                in_good_hands = True
                return await _keep_alive(supervision, agent, spec, ours=False)
        finally:
            if not in_good_hands:
                agent.detach()

    async def _not_seen(
        self, stored: StoredSession, store: Store, error: FileRefused
    ) -> SessionResult:
        """There is no session directory: only what our own journal proves is an end."""
        with store.claim(stored.id, owner_name()):
            if not await never_started(store, stored):
                raise unseen(stored.id, stored.host, error) from error
            facts = Facts.read(stored.facts)
            observer = self._options(facts.features or {}, facts.rules).observer
            summary = "the agent was never started: its supervisor died before"
            now = time.time()
            end = Ended(how="never-started")
            result = SessionResult(stored.id, "exited", summary, now, now, agent=end)
            recording = Recording(store.journal(stored.id), Secrets(), by=owner_name())
            async with recording.shown_to(observer):
                await recording.finish(result)
        raise AgentExited(summary, result=result)

    async def _known(self, host: Host | None, session: str) -> StoredSession | None:
        """The session in our journal. Raises StoreError, ValueError (it is over)."""
        store, stored = self._store, None
        if store is not None and "/" not in session:
            stored = await store.session(session)
        elif store is not None and host is not None:
            where = host.machine.name, await host.path(session)
            known = [s for s in await store.sessions() if (s.host, s.taskdir) == where]
            stored = known[-1] if known else None
        if stored is not None and store is not None and stored.over and not stored.complete:
            owner = store.owner(stored.id) or "another process"
            raise AlreadyOwned(f"{owner} sees this session to its end", owner=owner)
        if stored is not None and stored.over:
            raise ValueError(f"session {stored.id} is over: {stored.outcome}")
        return stored

    def _records(self, session: str, secrets: Secrets) -> SessionRecords:
        if self._store is None:
            return MemoryJournal(session, secrets)
        return self._store.journal(session, secrets)

    @asynccontextmanager
    async def _recording(
        self,
        stored: StoredSession,
        secrets: Secrets,
        options: SupervisionOptions,
        *,
        resumed: bool,
    ) -> AsyncIterator[Recording]:
        """The journal of a session that nobody else on this machine supervises."""
        store, by = self._store, owner_name()
        with nullcontext() if store is None else store.claim(stored.id, by):
            if store is not None:
                known = await store.find(stored.id)
                if known is not None and _place(known) != _place(stored):  # it came just now
                    words = f"the id {stored.id} is another session's"
                    raise AlreadyOwned(words, owner="another")
                await store.add(stored)
            recording = Recording(self._records(stored.id, secrets), secrets, by=by)
            async with recording.shown_to(options.observer):
                title = str(stored.facts.get("title") or "")
                await recording.begin(SessionBegan(stored.host, stored.taskdir, title, resumed, by))
                self._live.begin(recording)
                try:
                    yield recording
                finally:
                    with anyio.move_on_after(_ENDING, shield=True):
                        await recording.close()


async def _keep_alive(
    supervision: Supervision, agent: Agent, spec: Any, *, ours: bool = True
) -> SessionResult:
    """See *agent* to its end, and those that are started in its place when it dies."""
    recording = supervision.recording
    async with AsyncExitStack() as stack:
        while True:
            try:
                return await supervision.run(agent, ours=ours)
            except AgentDied as died:
                ours, why = True, visible(str(died))
            recording.result = None  # there is more to come
            await note_start(recording.records)
            conversation = await recording.records.noted("conversation")
            words = SYSTEM_MESSAGE_PREFIX + _AGAIN.format(why)
            next_one = kind_named(spec.kind).again(spec, words, conversation)
            start = _started(
                supervision.host,
                next_one,
                supervision.options,
                recording.records,
                agent.meta,
                again=True,
            )
            agent = await stack.enter_async_context(start)
            await note_start(recording.records, agent.session, agent.process)


@asynccontextmanager
async def _started(
    host: Host,
    spec: AgentSpec,
    options: SupervisionOptions,
    records: SessionRecords,
    meta: Mapping[str, object],
    *,
    again: bool = False,
    worktree: Worktree | None = None,
) -> AsyncIterator[Agent]:
    """Prepare a clean work directory, or *again* use it, and run *spec* there for this block."""
    async with AsyncExitStack() as stack:
        async with nullcontext() if worktree is None else new_worktree(host, worktree):
            real = await open_channel(host, "resume" if again else "start", set_up=not again)
            try:
                kind = kind_named(spec.kind)
                taught = teach(
                    host,
                    options.protocol,
                    replies=not kind.reads_to_end(spec),
                    checked=options.verify is not None or options.on_done is not None,
                )
                logdirs = tuple(dict.fromkeys((host.logdir, real)))
                served = options.asking.served
                plan = await kind.plan(host, spec, taught, logdirs=logdirs, served=served)
                if host.own_workdir and plan.agents_md is not None:
                    await host.write_text("AGENTS.md", plan.agents_md)
                shims = await options.protocol.prepare_browser_shims(host) or {}
                setup = {**plan.meta, **({PROMPTED: True} if plan.queued else {})}
                starting = agents.start(
                    host,
                    plan.argv,
                    env={**shims, **plan.env},
                    env_base=spec.env_base,
                    name=records.session,
                    journal_limit=options.journal_limit,
                    first_input=plan.first_input,
                    ends_input=plan.ends_input,
                    queued=plan.queued,
                    meta={**meta, SETUP: setup} if setup else meta,
                    before_launch=partial(note_start, records),
                )
                agent = await stack.enter_async_context(starting)
            except HostLost:
                raise  # it may run there
            except Exception:
                if not again:
                    with suppress(StoreError):  # it was stopped: who resumes has none to look for
                        await note_start(records)
                    await host.cleanup_taskdir(aggressive=True)  # refused while anything lives
                raise
        yield agent


def _withheld(names: Sequence[str]) -> str:
    words = f"not passed on to the agent, since they look like credentials: {', '.join(names)}"
    return f"{words}; to hand over ours, name it (--env NAME, in Python env=)"


async def _apart(store: Store | None, stored: StoredSession) -> StoredSession:
    """*stored*, whose id its host says, under another id where that one is another session's."""
    known = None if store is None else await store.find(stored.id)
    if known is not None and _place(known) != _place(stored):
        place = hashlib.sha256("\0".join(_place(stored)).encode("utf-8", "surrogateescape"))
        return replace(stored, id=f"{stored.id[:40]}-{place.hexdigest()[:12]}")
    return stored


def _place(session: StoredSession) -> tuple[str, str]:
    return session.host, session.taskdir
