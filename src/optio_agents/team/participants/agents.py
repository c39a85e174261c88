"""A coding agent as a participant: each turn is one session of it, detached and journaled.

The turn's id names the session, so whoever takes up the turn after a crash finds the agent that is
at work and goes on with it: its answer, its questions and its calls are read from the journal as
they were. Cancelling the turn ends the agent with all that it started; closing a durable team
leaves it at work.

What is sent to the turn goes into its input, once. What it asks of others is in `agent_verbs`.
"""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optio_agents.errors import OptioAgentsError
from optio_agents.team.errors import LimitReached, TeamError
from optio_agents.team.messages import Attachment, Message
from optio_agents.team.observing.events import AgentSpoke, Stepped
from optio_agents.team.stores import OVER
from optio_agents.team.work import end_of

from . import Participant
from .agent_sessions import leave_shared, own_session, session_of, shared_session
from .agent_verbs import SERVER, AgentVerbs, how_to_call
from .budget import Budget

if TYPE_CHECKING:
    import anyio

    from optio_agents.conversation.contract import ToolServer
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store import Store
    from optio_agents.store.records import Delivery
    from optio_agents.supervision import Session
    from optio_agents.team.context import TurnContext

_log = logging.getLogger(__name__)
_SUM_UP = "You have reached a limit ({}). Sum up what you have, briefly, and end."
_DAY = 86400.0  # seconds for one use of a verb: who is called may take its time
_AGAIN = 0.5  # seconds until a session that somebody else supervises is asked for again

Ends: TypeAlias = Literal["answer", "done"]


class AgentFailed(TeamError):
    """The session of the agent ended, and not well; the message says how."""


class CodingAgent(Participant):
    """What `agent` makes."""

    local = True
    grace = 60.0  # seconds to sum up when its tree has reached a limit
    ends_in_time = True  # by itself: what works for it has to be stopped

    def __init__(
        self, spec: Any, host: Any, *, cwd: str | None, role: str, ends: Ends, shared: bool
    ) -> None:
        if shared and ends != "answer":
            raise ValueError("a shared agent goes on after its turns: they end with its answer")
        self._spec, self._host, self._cwd, self.ends = spec, _ssh(host), cwd, ends
        self.role, self.shared = role, shared
        self._own: Store | None = None
        self._until_closed = AsyncExitStack()

    async def answer(self, context: TurnContext) -> Message:
        from optio_agents.store import Store

        path = getattr(context.kernel.store, "path", None)
        if path is not None:
            files = path.parent / "team" / session_of(context.id, context.kernel.team)
            async with Store(path) as store:
                return await AgentTurn(self, context, store, files).run()
        if self.shared:
            store = self._own = self._own or await self._make_store()
            return await AgentTurn(self, context, store, store.path.parent / context.id).run()
        with tempfile.TemporaryDirectory() as place:
            return await AgentTurn(self, context, None, Path(place)).run()

    async def _make_store(self) -> Store:
        """Where a session is kept between turns in a team without a journal."""
        from optio_agents.store import Store

        place = self._until_closed.enter_context(tempfile.TemporaryDirectory())
        return await self._until_closed.enter_async_context(Store(Path(place, "journal.sqlite3")))

    async def close(self) -> None:
        from optio_agents.supervision import find_session

        async with self._until_closed:
            store, self._own = self._own, None
            for one in await store.sessions() if store else ():
                if store and not one.over:
                    async with find_session(one.id, store=store) as session:
                        await session.stop()

    def spec(self, context: TurnContext, servers: Sequence[ToolServer]) -> Any:
        """What is run for this turn."""
        told = [self._spec.prompt, context.options.get("everyone")]
        how = how_to_call(context, by_tools=self.has_tools, by_server=bool(servers))
        told += [context.options.get("instructions"), how, context.text]
        known = {"mcp_servers": [*self._spec.mcp_servers, *servers]} if servers else {}
        return replace(self._spec, prompt="\n\n".join(part for part in told if part), **known)

    @property
    def has_tools(self) -> bool:
        """It calls functions of ours over its own stream."""
        from optio_agents.supervision.kinds import kind_named

        return kind_named(self._spec.kind).serves

    @property
    def takes_server(self) -> bool:
        """It has no stream for that, but takes an MCP server, and reaches ours for its session."""
        takes = hasattr(self._spec, "mcp_servers") and not self.has_tools
        return takes and self._host is None and not self.shared

    def make_host(self, session: str) -> Host:
        from optio_agents.hosts.host import make_host
        from optio_agents.supervision.sessions import task_directory

        return make_host(self._host, taskdir=task_directory(session), workdir=self._cwd)


def agent(
    spec: Any,
    host: SSHConfig | str | None = None,
    *,
    cwd: str | None = None,
    role: str = "",
    ends: Ends = "answer",
    shared: bool = False,
) -> CodingAgent:
    """A coding agent (`Claude`, `Command`, …) on *host* ("me@box"), or on this machine.

    It works in *cwd*, a directory there, or in one of its own for each turn. *ends*: "answer"
    takes its first completed turn with nothing owed as the return, "done" waits for its DONE. What
    it delivers comes as attachments.
    """
    return CodingAgent(spec, host, cwd=cwd, role=role, ends=ends, shared=shared)


class AgentTurn:
    """One turn of one agent: its session, from its beginning or from where it stood."""

    def __init__(
        self, participant: CodingAgent, context: TurnContext, store: Store | None, files: Path
    ) -> None:
        self._participant, self._context = participant, context
        self._store, self._files, self._ends = store, files, participant.ends
        self._after = 0  # the events of the session up to this one are of earlier turns
        self._delivered: dict[str, str] = {}
        self._owed: set[str] = set()  # files that were announced and not answered
        self._said: str | None = None
        self._limited = asyncio.Event()  # its tree may use up no more, but for a summary
        self._late: LimitReached | TimeoutError | None = None  # why it is ended by us
        self._verbs = AgentVerbs(context)
        self._budget = Budget(context)

    async def run(self) -> Message:
        from optio_agents.errors import SessionFailed

        self._context.stays = True  # the agent waits, and so do we
        await self._budget.begin({})
        if self._context.claim.epoch == 1 and (limit := self._budget.reached()):
            raise limit
        async with AsyncExitStack() as stack:
            async with self._in_time():
                session = await self._enter(stack)
            sender = asyncio.create_task(self._forward(session))
            try:
                await self._follow(session)
                sender.cancel()
                result = await session.result()
            except SessionFailed as error:
                if self._late is None:
                    raise AgentFailed(f"{self._who}: {error}", turn=self._context.id) from error
                result = None
            except asyncio.CancelledError:
                if await asyncio.shield(self._goes_on()):
                    await asyncio.shield(session.detach())
                elif self._participant.shared and self._store is not None:
                    await asyncio.shield(leave_shared(session, self._store))
                raise
            finally:
                sender.cancel()
                with suppress(asyncio.CancelledError):
                    await sender
        if self._late is not None:
            self._sum_up(result.summary if result and result.outcome == "done" else None)
            raise self._late
        assert result is not None
        text = self._said if self._said is not None else result.summary or ""
        if not self._participant.shared:
            self._delivered = {one.path: one.saved for one in result.deliverables if one.saved}
        files = tuple(map(_attached, self._delivered.values()))
        if self._verbs.finished is not None:
            return self._verbs.finished.but(attachments=files)
        return Message(text, attachments=files)

    @property
    def _who(self) -> str:
        return f"{self._context.name} (turn {self._context.id})"

    def _in_time(self) -> asyncio.Timeout:
        """While the agent is found or started: found late, it is still to be ended."""
        end = end_of(self._context.turn, self._participant.grace)
        left = None if end is None else max(end - time.time(), self._participant.grace)
        return asyncio.timeout(left)

    async def _goes_on(self) -> bool:
        """Whether it is we who go, and not the turn that ends."""
        kernel = self._context.kernel
        rows = await kernel.store.look(id=self._context.id)
        return kernel.store.durable and bool(rows) and rows[0].state not in OVER

    async def _enter(self, stack: AsyncExitStack) -> Session:
        from optio_agents.protocol import get_protocol
        from optio_agents.supervision import find_session, supervise

        store, context, participant = self._store, self._context, self._participant
        if participant.shared and store:
            name, self._after = await shared_session(context, store)
        else:
            name = await own_session(context, store)
        known = await store.find(name) if store else None
        options: dict[str, Any] = {
            "store": store,
            "protocol": get_protocol(caller_messages=True),
            "on_caller_message": self._verbs.by_line,
            "on_permission_request": self._verbs.permit,
            "permission_timeout": float("inf"),  # the approver of the team has its own bound
            "save_deliverables_to": self._files,
            "tools": self._verbs.tools() if participant.has_tools else (),
        }
        servers = await self._serve(stack) if participant.takes_server else ()
        if known and known.over and store is not None:
            return await stack.enter_async_context(find_session(name, store=store))
        if known:
            session = await self._take_back(stack, name, options)
            if self._after:
                await session.send(context.text, id=context.id)
            return session
        host = await stack.enter_async_context(participant.make_host(name))
        spec, title = participant.spec(context, servers), context.name
        return await stack.enter_async_context(
            supervise(host, spec, session=name, title=title, **options)
        )

    async def _serve(self, stack: AsyncExitStack) -> Sequence[ToolServer]:
        """Its verbs over HTTP, for the whole turn in one place."""
        from optio_agents.conversation.contract import ToolServer
        from optio_agents.team.mcp.server import serve_verbs

        context, tools = self._context, self._verbs.tools()
        serving = serve_verbs(context, tools=tools, at=context.claim.records.get("mcp"))
        try:
            endpoint = await stack.enter_async_context(serving)
        except OSError as error:
            _log.warning("%s has no verbs but by lines of its log: %s", self._who, error)
            return ()
        await context.record("mcp", [endpoint.port, endpoint.token])
        headers = {"Authorization": f"Bearer {endpoint.token}"}
        return [ToolServer(SERVER, endpoint.url, headers, timeout=_DAY, optional=True)]

    async def _take_back(
        self, stack: AsyncExitStack, name: str, options: Mapping[str, Any]
    ) -> Session:
        """The turn is ours, and so is its session: wait for who supervises it meanwhile."""
        from optio_agents.errors import AlreadyOwned
        from optio_agents.supervision import supervise

        complained = False
        while True:
            try:
                return await stack.enter_async_context(
                    supervise(None, resume=name, take_over=True, **options)
                )
            except AlreadyOwned as owned:
                if not complained:
                    _log.warning("%s waits for its session: %s", self._who, owned)
                complained = True
                await asyncio.sleep(_AGAIN)

    async def _follow(self, session: Session) -> None:
        """Return once the agent has nothing more to say for this turn.

        The events of an earlier run come first, its end (detached) among them.
        """
        from optio_agents.concurrency import task_group
        from optio_agents.supervision import AgentEvent, DeliveryStep, TurnEnded

        leave = session.detach if self._participant.shared else session.stop
        async with task_group() as tasks:
            tasks.start_soon(self._until_over, tasks.cancel_scope)
            tasks.start_soon(self._until_limited, session, tasks.cancel_scope)
            tasks.start_soon(self._until_late, session, tasks.cancel_scope)
            async for event in session.events(self._after):
                match event:
                    case AgentEvent(raw):
                        self._context.turn.emit(AgentSpoke, dict(raw))
                    case DeliveryStep(delivery):
                        self._deliver(delivery)
                    case TurnEnded(ended):
                        self._count(ended)
                        if error := self._judge(ended):
                            await leave()
                            raise error
                if self._verbs.finished is not None:
                    break
            tasks.cancel_scope.cancel()
        if self._verbs.finished is not None or self._late is not None:
            await leave()

    async def _until_over(self, following: anyio.CancelScope) -> None:
        """Nothing need happen in the session once it has said `finish` by a line of its log."""
        await self._verbs.over.wait()
        following.cancel()

    async def _until_limited(self, session: Session, following: anyio.CancelScope) -> None:
        """Once there is no time left, or no more may be used up, ask it once to sum up.

        It has `grace` seconds for that; when half of them are over, what it does is interrupted.
        """
        from anyio import move_on_after, sleep_forever  # not before there is an agent

        with move_on_after(max(self._budget.left(), 0.0)):
            await self._limited.wait()
        self._late = self._late or self._budget.reached()
        left = self._participant.grace + min(self._budget.left(), 0.0)
        with move_on_after(left / 2), suppress(OptioAgentsError, TimeoutError):
            await session.send(_SUM_UP.format(self._late), id=f"{self._context.id}:limit")
            await sleep_forever()
        with move_on_after(left / 2), suppress(OptioAgentsError, TimeoutError):
            await session.interrupt()
            await sleep_forever()
        following.cancel()

    async def _until_late(self, session: Session, following: anyio.CancelScope) -> None:
        """The call has a time of its own."""
        from anyio import move_on_after

        bound, grace = self._context.options.get("timeout"), self._participant.grace
        if bound is not None:
            began = self._context.turn.row.started or time.time()
            await asyncio.sleep(max(began + bound - time.time(), 0.0))
            self._late = self._late or TimeoutError()
            if self._participant.shared:  # others wait for it
                with move_on_after(grace), suppress(OptioAgentsError, TimeoutError):
                    await session.interrupt()
            following.cancel()

    def _sum_up(self, summary: str | None) -> None:
        """Its last words are the turn's, however that ends."""
        turn, finished = self._context.turn, self._verbs.finished
        text = summary or (finished.text if finished else self._said)
        if text:
            turn.add(Message(text, "return", turn.name, turn.message.sender, turn=turn.id))

    def _deliver(self, delivery: Delivery) -> None:
        if delivery.saved:
            self._delivered[delivery.path] = delivery.saved
        if delivery.taken is None and delivery.reply is None:
            self._owed.add(delivery.path)
        else:
            self._owed.discard(delivery.path)

    def _judge(self, ended: Any) -> TeamError | None:
        """Take in a turn of the agent's; why it is the end of ours, and no good one."""
        if self._late is not None:
            if ended.ok:  # else it was interrupted, to sum up
                self._verbs.finished = self._verbs.finished or Message(ended.text or "")
            return None
        if not ended.ok and self._ends == "answer":
            words = f"{self._who}: its turn was {ended.outcome}: {ended.failure}"
            return AgentFailed(words, turn=self._context.id)
        if ended.cost is None and (unpriced := self._budget.unpriced(self._who)):
            return unpriced
        self._said = ended.text or self._said
        if self._ends == "answer" and not self._owed and not self._verbs.open:
            self._verbs.finished = self._verbs.finished or Message(self._said or "")
        elif limit := self._budget.reached():
            self._late = limit
            self._limited.set()
        return None

    def _count(self, ended: Any) -> None:
        usage = ended.usage
        tokens = 0 if usage is None else usage.input_tokens + usage.output_tokens
        self._budget.add(tokens, ended.cost)
        self._context.turn.emit(Stepped, int(self._context.used["steps"]), tokens)

    async def _forward(self, session: Session) -> None:
        """What is sent to the turn goes into the agent's input, each message once."""
        number = 0
        while True:
            await self._context.wait_mail()
            for message in await self._context.messages():
                number += 1
                words = f"{message.sender} says: {message.text}"
                await session.send(words, id=f"{self._context.id}:{number}")


def _attached(saved: str) -> Attachment:
    path = Path(saved)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Attachment(kind, path.read_bytes(), name=path.name)


def _ssh(host: Any) -> Any:
    from optio_agents.hosts.ssh.config import SSHConfig

    if not isinstance(host, str):
        return host
    user, at, name = host.rpartition("@")
    name, _, port = name.partition(":")
    return SSHConfig(name, user=user if at else None, port=int(port) if port else None)
