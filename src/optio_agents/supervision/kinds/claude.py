"""The claude CLI: its conversation is recorded, its permissions are asked for, its turns awaited.

It never ends by itself: once DONE or ERROR is recorded and no turn runs, it has nothing to do any
more. Of what it says only turns, requests and how it stands are recorded; the rest lies in its
output on its host. Its code is loaded when there is such an agent, not before.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import NAMESPACE_URL, uuid4, uuid5

import anyio

from optio_agents.concurrency import every, task_group
from optio_agents.conversation.contract import NOBODY_ANSWERED, PermissionDecision, TurnResult
from optio_agents.conversation.json_lines import LINE_LIMIT
from optio_agents.conversation.wire_agent import AgentWire, open_requests, sent_before
from optio_agents.errors import AgentError, OptioAgentsError, StoreError
from optio_agents.supervision.events import (
    AnswerOutcome,
    OpenRequest,
    RequestDecided,
    RequestOpened,
    TurnEnded,
)
from optio_agents.supervision.recording import Bell

from . import Startup, say_once, teach

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from optio_agents.agents import Agent
    from optio_agents.conversation.claude import ClaudeCodeConversation, PermissionMode
    from optio_agents.conversation.contract import Event, PermissionRequest
    from optio_agents.display import Secrets
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.supervision.recording import Recording

    from . import PermissionPolicy


_BEAT = 0.2  # seconds
_NEVER = float("inf")  # the conversation's own time-out: ours knows how long we slept
_KEPT = ("subtype", "is_error", "result", "num_turns", "duration_ms", "total_cost_usd", "usage")
_RECALLING = 5.0  # seconds to find out who has answered in our place
_READING = 30.0  # seconds that reading what it has said may take
_WORDS = 4096  # characters of a turn's answer that are kept
_LOGIN = re.compile(r"not logged in|please run /login|invalid api key|\b401\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claude:
    """The claude CLI. It is told how to use the log by its system prompt.

    *options* are further arguments for it; never put a secret there. Values in *env* are not
    stored anywhere, and those whose names look like credentials are hidden from all we record.
    """

    kind: ClassVar[str] = "claude"
    prompt: str | None = None
    _: KW_ONLY
    model: str | None = None
    permission_mode: PermissionMode | None = None
    allowed_tools: Sequence[str] = ()
    options: Sequence[str] = ()
    executable: str = "claude"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"


class ClaudeKind:
    """An agent that one converses with."""

    name = "claude"

    def program(self, spec: Claude) -> str:
        return spec.executable

    def reads_to_end(self, spec: Claude) -> bool:
        return False

    async def check(self, host: Host, spec: Claude) -> None:
        from optio_agents.agents.launch import SEARCHED, finds

        if not await finds(host, spec.executable, spec.env):
            where = "here" if host.machine.is_local else f"on {host.machine.name}"
            raise AgentError(
                f"claude is not installed {where} ({SEARCHED}): "
                "npm install -g @anthropic-ai/claude-code, or see https://claude.com/claude-code"
            )

    async def plan(
        self, host: Host, spec: Claude, protocol: Protocol, *, real: str, checked: bool
    ) -> Startup:
        from optio_agents.conversation.claude.launch import (
            check_root,
            plan_launch,
            reporting_rules,
        )

        launch = plan_launch(
            prompt=spec.prompt,
            model=spec.model,
            permission_mode=spec.permission_mode,
            allowed_tools=[*spec.allowed_tools, *reporting_rules(host.logdir, real)],
            append_system_prompt=teach(host, protocol, checked=checked),
            env=spec.env,
            executable=spec.executable,
            arguments=spec.options,
        )
        await check_root(host, launch, env_base=spec.env_base)
        return Startup(launch.argv, launch.env, launch.first_input)

    @asynccontextmanager
    async def connect(
        self, agent: Agent, recording: Recording, asking: PermissionPolicy
    ) -> AsyncIterator[ClaudeLink]:
        from optio_agents.conversation.claude import ClaudeCodeConversation
        from optio_agents.conversation.claude.stream_json import message_of

        conversation = ClaudeCodeConversation(permission_timeout=_NEVER, by=asking.by)
        sent = await sent_before(agent, message_of)
        conversation.attach_wire(AgentWire(agent, line_limit=LINE_LIMIT), sent=sent, echoes=True)
        read = await recording.records.noted("output") or {}
        link = ClaudeLink(agent, conversation, recording, asking, known=int(read.get("events", 0)))
        link.left_open = {row.value["id"] for row in await recording.records.open_requests()}
        conversation.on_event(link.take)
        conversation.on_permission_request(link.decide)
        async with task_group() as tasks:
            tasks.start_soon(link.listen)
            yield link
            tasks.cancel_scope.cancel()

    def reach(self, agent: Agent, session: str, place: Cursor | None) -> ClaudeReach:
        return ClaudeReach(agent, session, place)


class ClaudeReach:
    """Speaking to a CLI through its session directory alone."""

    def __init__(self, agent: Agent, session: str, place: Cursor | None = None) -> None:
        self._agent, self._session, self._place = agent, session, place

    async def send(self, name: str | None, text: str) -> str:
        from optio_agents.conversation.claude.stream_json import user_message

        # the same for the same message of the same session, whoever says it
        named = name and uuid5(NAMESPACE_URL, f"optio-agents:{self._session}:{name}")
        return await say_once(self._agent, name, user_message(text, str(named or uuid4())))

    async def interrupt(self) -> None:
        from optio_agents.conversation.claude.stream_json import control_request

        await self._agent.say(control_request(f"optio-{secrets.token_hex(6)}", "interrupt"))

    async def requests(self) -> tuple[OpenRequest, ...]:
        from optio_agents.conversation.claude.dialect import ClaudeDialect

        with anyio.fail_after(_READING):
            found = await open_requests(self._agent, ClaudeDialect(echoes=True), self._place)
        return tuple(map(OpenRequest.of, found))

    async def answer(
        self, request: PermissionRequest, decision: PermissionDecision, *, by: str
    ) -> AnswerOutcome:
        from optio_agents.conversation.claude.stream_json import permission_answer

        data = permission_answer(request, decision)
        answered = await self._agent.answer(request.names[0], data, by=by)
        return AnswerOutcome(answered.won, answered.by)


class ClaudeLink(ClaudeReach):
    """The conversation of one session, as its owner has it."""

    def __init__(
        self,
        agent: Agent,
        conversation: ClaudeCodeConversation,
        recording: Recording,
        asking: PermissionPolicy,
        *,
        known: int,
    ) -> None:
        super().__init__(agent, recording.session)
        self._conversation, self._recording, self._asking = conversation, recording, asking
        self._known, self._events = known, 0  # an earlier owner has recorded the first ones
        self.left_open: set[str] = set()  # what an earlier owner did not see decided
        self._deciding: dict[str, tuple[anyio.CancelScope, list[RequestDecided]]] = {}
        self._over = False
        self._turns = 0
        self._failed: Exception | None = None
        self._bell = Bell()
        self.trouble: str | None = None

    async def interrupt(self) -> None:
        await self._conversation.interrupt()

    async def requests(self) -> tuple[OpenRequest, ...]:
        return tuple(map(OpenRequest.of, self._conversation.open_requests))

    async def answer(
        self, request: PermissionRequest, decision: PermissionDecision, *, by: str
    ) -> AnswerOutcome:
        winner = await self._conversation.answer(request, decision, by=by)
        if winner is None:
            raise AgentError(f"no request {request.id!r} is open")
        answer = AnswerOutcome(winner == by, winner)
        if request.id in self._deciding:  # nobody need decide it any more
            asking, decided = self._deciding[request.id]
            if answer.won:
                decided.append(RequestDecided(request.id, decision.behavior, by))
            asking.cancel()
        return answer

    async def reply(self, name: str, text: str) -> None:
        await self.send(name or None, text)

    async def body(self, host: Any, hook: Any) -> object:
        conversation = self._conversation
        while not conversation.closed:
            if self._failed is not None:
                raise self._failed
            if self._over and not conversation.is_pending():
                return None  # it would wait for ever for what else is to be done
            await self._bell.next.wait()
        return await self._agent.wait()

    def busy(self) -> bool:
        return bool(self._conversation.open_requests)

    def on_ending(self) -> None:
        self._over = True
        self._bell.ring()

    async def close(self) -> None:
        await self._conversation.close()

    async def listen(self) -> None:
        """Read what it says until it has ended."""
        await self._conversation.run_reader()
        self._bell.ring()

    async def take(self, event: Event) -> None:
        """One event, in order; the next one waits until this one is kept."""
        self._events += 1
        if self._events > self._known:
            self._recording.moment(event)
        self._stand()
        if event.get("type") == "result":
            await self._end_turn(event)
        self._bell.ring()

    def _stand(self) -> None:
        state = self._conversation.state
        match state.phase:
            case "waiting for permission":
                first = self._conversation.open_requests[:1]
                secrets = self._recording.secrets
                asked = "".join(f"you: {_gist(one, secrets)}" for one in first)
                self._recording.stand("waiting", asked)
            case "rate limited":
                self._recording.stand("limited", state.reason, until=state.until)
            case "idle" | "starting":
                self._recording.stand(state.phase)
            case "working":
                self._recording.stand("working")

    async def _end_turn(self, event: Event) -> None:
        turn = turn_of(self._recording.secrets.hide_in(event))
        self._turns += 1
        self.trouble = None if turn.ok or turn.outcome == "cancelled" else turn.failure
        place = self._conversation.cursor
        read = {"events": self._events, "cursor": place and asdict(place)}
        try:
            if self._events > self._known:
                await self._recording.add(TurnEnded(turn), key=f"{self._events:012d}")
                await self._recording.records.note("output", "stdout", read)
                await self._recording.records.note("claude", "session", event.get("session_id"))
            for request in self.left_open:
                self._recording.post(RequestDecided(request, "settled", "the agent itself"))
            self.left_open.clear()
        except StoreError as error:
            self._failed = error
        if turn.outcome == "failed" and self._turns == 1 and _LOGIN.search(turn.failure or ""):
            self._failed = AgentError(
                f"claude is not logged in there ({turn.failure}): log in on that host, with "
                "`claude` and then /login, or hand over a key, as with --env ANTHROPIC_API_KEY"
            )

    # Letting a person decide, here or at another terminal, and writing down what is open

    async def decide(self, request: PermissionRequest) -> PermissionDecision:
        opened = OpenRequest.of(request)
        self.left_open.discard(request.id)
        await self._recording.add(RequestOpened(request, opened.digest))
        self._stand()
        decided = list[RequestDecided]()
        async with task_group() as tasks:
            asking = tasks.cancel_scope
            self._deciding[request.id] = asking, decided
            tasks.start_soon(self._decided_elsewhere, request.id, asking)
            try:
                decision, by = await self._ask(request)
                behavior = getattr(decision, "behavior", "deny")
                decided.append(RequestDecided(request.id, behavior, by))
                return decision
            finally:
                del self._deciding[request.id]
                asking.cancel()
                if self._recording.leaving is None:  # else it stays open
                    with anyio.CancelScope(shield=True):
                        known = decided[0] if decided else await self._settled(request)
                        await self._recording.add(known)
        return PermissionDecision("deny")  # nobody wants it any more

    async def _decided_elsewhere(self, request: str, asking: anyio.CancelScope) -> None:
        """The agent itself tells only once the tool that was allowed has ended."""
        with suppress(StoreError):  # the next that is written down tells
            await self._recording.decided(request)
            asking.cancel()

    async def _ask(self, request: PermissionRequest) -> tuple[PermissionDecision, str]:
        with anyio.CancelScope() as patience, _patient(self._asking.timeout, patience.cancel):
            if self._asking.handler is None:
                await anyio.sleep_forever()
            else:
                answer = self._asking.handler(request)
                return await answer if isawaitable(answer) else answer, self._asking.by
        return PermissionDecision("deny", message=NOBODY_ANSWERED), "nobody"

    async def _settled(self, request: PermissionRequest) -> RequestDecided:
        """Who has decided in our place: somebody at another terminal, or the agent itself."""
        from optio_agents.conversation.claude.stream_json import behavior_of

        with anyio.move_on_after(_RECALLING), suppress(OptioAgentsError):
            for name in request.names:
                if answered := await self._agent.find_answer(name):
                    by, data = answered
                    return RequestDecided(request.id, behavior_of(data), by)
        return RequestDecided(request.id, "settled", "another terminal, or the agent itself")


def turn_of(event: Event) -> TurnResult:
    """How the turn ended that the CLI's *event* is the result of."""
    from optio_agents.conversation.claude.models import ClaudeTurnResult

    turn = ClaudeTurnResult.of(event)
    kept = {name: event[name] for name in _KEPT if name in event}
    if isinstance(kept.get("result"), str):
        kept["result"] = kept["result"][:_WORDS]
    return TurnResult(
        outcome=turn.outcome,
        text=turn.text[:_WORDS],
        failure=turn.failure and turn.failure[:_WORDS],
        usage=turn.usage,
        evidence=turn.evidence,
        raw=kept,
    )


def _gist(request: PermissionRequest, secrets: Secrets) -> str:
    """What it is about, on a line."""
    known = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
    about = next((str(request.input[name]) for name in known if name in request.input), "")
    about = secrets.hide(about)
    return f"{request.tool_name} `{about[:200]}`" if about else request.tool_name


@contextmanager
def _patient(seconds: float, tired: Callable[[], None]) -> Iterator[None]:
    """Call *tired* once the block has lasted *seconds* in which we were awake."""
    left = seconds

    def beat(awake: float) -> None:
        nonlocal left
        left -= awake
        if left <= 0:
            tired()

    leave = every(_BEAT, beat)
    try:
        yield
    finally:
        leave()


KIND = ClaudeKind()
