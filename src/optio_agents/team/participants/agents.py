"""A coding agent as a participant: each turn is one session of it, detached and journaled.

The turn's id names the session, so whoever takes up the turn after a crash finds the agent that is
at work and goes on with it: its answer, its questions and its calls are read from the journal as
they were. Cancelling the turn ends the agent with all that it started; closing a durable team
leaves it at work.

It calls others by lines of its log; what is sent to the turn goes into its input, once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optio_agents.team.context import is_yes
from optio_agents.team.errors import TeamError
from optio_agents.team.events import AgentSpoke, Stepped
from optio_agents.team.messages import Attachment, Message
from optio_agents.team.stores import OVER
from optio_agents.team.verbs import VERBS, Finished, dispatch

if TYPE_CHECKING:
    from optio_agents.conversation.contract import PermissionDecision, PermissionRequest
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.ssh.config import SSHConfig
    from optio_agents.store import Store
    from optio_agents.supervision import Session
    from optio_agents.team.context import TurnContext

Ends: TypeAlias = Literal["answer", "done"]


class AgentFailed(TeamError):
    """The session of the agent ended, and not well; the message says how."""


class CodingAgent:
    """What `agent` makes."""

    local = True

    def __init__(
        self, spec: Any, host: Any, *, cwd: str | None, role: str, ends: Ends, shared: bool
    ) -> None:
        self._spec, self._host, self._cwd, self._ends = spec, _ssh(host), cwd, ends
        self.role, self.shared = role, shared

    def open(self, name: str) -> None:
        pass

    async def close(self) -> None:
        pass

    async def answer(self, context: TurnContext) -> Message:
        from optio_agents.store import Store

        path = getattr(context.kernel.store, "path", None)
        async with AsyncExitStack() as stack:
            store = None if path is None else await stack.enter_async_context(Store(path))
            if path is None:
                files = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            else:
                files = path.parent / "team" / session_of(context.id)
            return await AgentTurn(context, store, files, self._ends).run(self)

    def spec(self, context: TurnContext) -> Any:
        """What is run for this turn."""
        told = [self._spec.prompt, context.options.get("everyone")]
        told += [context.options.get("instructions"), _how_to_call(context), context.text]
        return replace(self._spec, prompt="\n\n".join(part for part in told if part))

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

    def __init__(self, context: TurnContext, store: Store | None, files: Path, ends: Ends) -> None:
        self._context, self._store, self._files, self._ends = context, store, files, ends
        self._owed: set[str] = set()  # files that were announced and not answered
        self._said: str | None = None
        self._calls = 0
        self._finished: Message | None = None

    async def run(self, participant: CodingAgent) -> Message:
        from optio_agents.errors import SessionFailed

        async with AsyncExitStack() as stack:
            session = await self._enter(participant, stack)
            sender = asyncio.create_task(self._forward(session))
            try:
                await self._follow(session)
                sender.cancel()
                result = await session.result()
            except SessionFailed as error:
                raise AgentFailed(f"{self._who}: {error}", turn=self._context.id) from error
            except asyncio.CancelledError:
                if await asyncio.shield(self._goes_on()):
                    await asyncio.shield(session.detach())
                raise
            finally:
                sender.cancel()
                with suppress(asyncio.CancelledError):
                    await sender
        text = self._said if self._said is not None else result.summary or ""
        files = tuple(_attached(one.saved) for one in result.deliverables if one.saved)
        if self._finished is not None:
            return self._finished.but(attachments=files)
        return Message(text, attachments=files)

    @property
    def _who(self) -> str:
        return f"{self._context.name} (turn {self._context.id})"

    async def _goes_on(self) -> bool:
        """Whether it is we who go, and not the turn that ends."""
        kernel = self._context.kernel
        rows = await kernel.store.look(id=self._context.id)
        return kernel.store.durable and bool(rows) and rows[0].state not in OVER

    async def _enter(self, participant: CodingAgent, stack: AsyncExitStack) -> Session:
        from optio_agents.protocol import get_protocol
        from optio_agents.supervision import find_session, supervise

        name, store = session_of(self._context.id), self._store
        known = [one for one in (await store.sessions() if store else ()) if one.id == name]
        options: dict[str, Any] = {
            "store": store,
            "protocol": get_protocol(caller_messages=True),
            "on_caller_message": self._called,
            "on_permission_request": self._permitted,
            "permission_timeout": float("inf"),  # the approver of the team has its own bound
            "save_deliverables_to": self._files,
        }
        if known and known[0].over and store is not None:
            return await stack.enter_async_context(find_session(name, store=store))
        if known:
            return await stack.enter_async_context(supervise(None, resume=name, **options))
        host = await stack.enter_async_context(participant.make_host(name))
        spec, title = participant.spec(self._context), self._context.name
        return await stack.enter_async_context(
            supervise(host, spec, session=name, title=title, **options)
        )

    async def _follow(self, session: Session) -> None:
        """Return once the agent has nothing more to say for this turn.

        The events of an earlier run come first, its end (detached) among them.
        """
        from optio_agents.supervision import (
            AgentEvent,
            DeliveryStep,
            TurnEnded,
        )

        turn = self._context.turn
        async for event in session.events():
            match event:
                case AgentEvent(raw):
                    said = AgentSpoke(turn.id, turn.name, turn.row.parent, dict(raw))
                    turn.emit(said)
                case DeliveryStep(delivery):
                    if delivery.taken is None and delivery.reply is None:
                        self._owed.add(delivery.path)
                    else:
                        self._owed.discard(delivery.path)
                case TurnEnded(ended):
                    self._count(ended)
                    if not ended.ok and self._ends == "answer":
                        raise AgentFailed(
                            f"{self._who}: its turn was {ended.outcome}: {ended.failure}",
                            turn=turn.id,
                        )
                    self._said = ended.text or self._said
                    if self._ends == "answer" and not self._owed and not self._calls:
                        await session.stop()
                        return
            if self._finished is not None:
                await session.stop()
                return

    def _count(self, ended: Any) -> None:
        turn, used = self._context.turn, self._context.used
        usage = ended.usage
        tokens = 0 if usage is None else usage.input_tokens + usage.output_tokens
        used["steps"] = used.get("steps", 0) + 1
        used["tokens"] = used.get("tokens", 0) + tokens
        if ended.cost is not None:
            used["usd"] = used.get("usd", 0.0) + ended.cost
        turn.emit(Stepped(turn.id, turn.name, turn.row.parent, int(used["steps"]), tokens))

    async def _forward(self, session: Session) -> None:
        """What is sent to the turn goes into the agent's input, each message once."""
        number = 0
        while True:
            await self._context.wait_mail()
            for message in await self._context.messages():
                number += 1
                words = f"{message.sender} says: {message.text}"
                await session.send(words, id=f"{self._context.id}:{number}")

    async def _called(self, hook: Any, verb: str, data: object) -> str | None:
        """The agent uses a verb by a line of its log; the answer goes into its input."""
        if verb not in VERBS:
            return f"{verb}: there is no such verb: there are {', '.join(VERBS)}"
        arguments = dict(data) if isinstance(data, Mapping) else {}
        name = arguments.pop("id", None) or json.dumps([verb, arguments], sort_keys=True)
        self._calls += 1
        try:
            said = await dispatch(self._context, verb, arguments, key=f"line:{name}")
        except Finished as finished:
            self._finished = finished.message
            return None
        finally:
            self._calls -= 1
        return f"{verb}: {said}"

    async def _permitted(self, request: PermissionRequest) -> PermissionDecision:
        from optio_agents.conversation.contract import PermissionDecision

        question = f"{self._context.name}: {request.tool_name} {json.dumps(request.input)}"
        key = request.names[0] if request.names else request.id
        answer = await self._context.ask(question, key=f"permission:{key}")
        if is_yes(answer):
            return PermissionDecision("allow")
        return PermissionDecision("deny", message=answer.text or "no")


def session_of(turn: str) -> str:
    """The id of the session of a turn: its own, where that can be one."""
    plain = turn.replace(".", "_")
    return plain if len(plain) <= 64 else hashlib.sha256(turn.encode()).hexdigest()[:40]


def _how_to_call(context: TurnContext) -> str:
    calls = context.kernel.calls
    peers = [name for name in calls.visible(context.options.get("only")) if name != context.name]
    if not peers:
        return ""
    roles = "\n".join(f"- {name}: {context.kernel.participants[name].role}" for name in peers)
    return (
        "You work with others. To give one of them work, append this line to your log and end "
        "your turn; the answer comes as a message:\n"
        'CALLER_MESSAGE: call {"name": "…", "message": "…", "id": "a name of this call"}\n'
        'To tell your caller something: CALLER_MESSAGE: send {"to": "caller", "message": "…"}\n'
        f"There are:\n{roles}"
    )


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
