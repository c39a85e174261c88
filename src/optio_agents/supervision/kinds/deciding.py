"""What an agent asks of its owner: each request recorded, decided once, and its decision recorded.

A person decides here (the handler) or at another terminal, or nobody does and the time runs out.
A request is shown to nobody before it stands in the journal, so whoever is asked finds it there;
its decision is written down behind it, whoever made it. What was decided elsewhere is looked up in
the session directory: the first answer there is the one that the agent has. Where we leave, or the
agent is read no further, nothing was decided: the request stays open for the next owner.
"""

from __future__ import annotations

import logging
import posixpath
import re
import shlex
from contextlib import contextmanager, suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.agents.input import next_name, request_name
from optio_agents.concurrency import SLOW, every
from optio_agents.conversation.contract import NOBODY_ANSWERED, PermissionDecision
from optio_agents.errors import AgentError, OptioAgentsError, StoreError
from optio_agents.supervision.events import (
    AnswerOutcome,
    MessageSent,
    Notice,
    OpenRequest,
    RequestDecided,
    RequestOpened,
)
from optio_agents.supervision.recording import SLOWLY, Bell, ringing

from . import setup_of
from .reaching import ConversationReach, Wording

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from optio_agents.agents import Agent
    from optio_agents.conversation.contract import PermissionRequest, ToolCall
    from optio_agents.conversation.machinery import AgentConversation
    from optio_agents.supervision.recording import Recording

    from . import PermissionPolicy


_log = logging.getLogger(__name__)
_RECALLING = 5.0  # seconds to find out who has answered in our place
_ENTRY = re.compile(r"(?:printf '%s\\n'|echo) '[^'\n\r]*' >> (?P<log>[^\n\r]+)")
# what tools call the file they write
_FILES = "path", "file_path", "filePath", "filepath", "absolute_path"
_TELLING = "command", "file_path", "path", "pattern", "url", "query", "description", "prompt"


class OwnerReach(ConversationReach):
    """Reaching an agent as its owner, who has decided what it asks."""

    def __init__(
        self,
        agent: Agent,
        conversation: AgentConversation,
        recording: Recording,
        asking: PermissionPolicy,
        wording: Wording,
    ) -> None:
        super().__init__(agent, recording.session, wording)
        self._conversation, self._recording, self._asking = conversation, recording, asking
        self._label = wording.label(agent)
        self._bell = Bell()  # rings when its owner has to look again
        self._failed: Exception | None = None  # the body raises it
        self.left_open: set[str] = set()  # what an earlier owner did not see decided
        self._recalling, self._recalled_at = anyio.Lock(), float("-inf")
        self._answered: Callable[[str], bool] = lambda _: False
        self._deciding: dict[str, tuple[anyio.CancelScope, list[RequestDecided]]] = {}

    def _fail(self, error: Exception) -> None:
        self._failed = error
        self._bell.ring()

    async def steer(self, text: str) -> str:
        await self._conversation.steer(text)
        return next_name()

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
        if request.id in self._deciding:  # else it is looked up who has
            asking, decided = self._deciding[request.id]
            if winner == by:
                decided.append(RequestDecided(request.id, decision.behavior, by))
            asking.cancel()
        return AnswerOutcome(winner == by, winner)

    async def decide(self, request: PermissionRequest) -> PermissionDecision:
        """Have it decided by whoever may, and written down."""
        if self._wording.reports(self._agent, request):
            return PermissionDecision("allow")
        roots = self._wording.delivers(self._agent, request)
        if roots and not (await self._agent.query("links", *roots)).strip():  # that lead elsewhere
            return PermissionDecision("allow")
        opened = OpenRequest.of(request)
        self.left_open.discard(request.id)
        try:
            await self._recording.add(RequestOpened(request, opened.digest))
        except StoreError as error:  # nobody denies what nobody could be shown
            self._fail(error)
            await anyio.sleep_forever()
        self._stand_waiting()
        decided = list[RequestDecided]()
        with anyio.CancelScope() as asking:
            self._deciding[request.id] = mine = asking, decided
            self._bell.ring()
            try:
                decision, by = await self._ask(request)
                try:
                    self._dialect().permission_answer(request, decision)
                except ValueError as error:  # it cannot be told that: so it is not
                    words = f"denied: {error}"
                    self._recording.post(Notice(f"{request.tool_name} was {words}"))
                    decision = PermissionDecision("deny", message=words)
                behavior = getattr(decision, "behavior", "deny")
                decided.append(RequestDecided(request.id, behavior, by))
                return decision
            finally:
                if self._deciding.get(request.id) is mine:
                    del self._deciding[request.id]
                unread = self._conversation.unusable is not None or self._asks_anew(request)
                if self._recording.leaving is None and not unread:  # else it stays open
                    with anyio.CancelScope(shield=True):
                        known = decided[0] if decided else await self._settled(request)
                        try:
                            await self._recording.add(known)
                        except StoreError as error:  # it was decided all the same
                            self._fail(error)
        return PermissionDecision("deny")  # nobody wants it any more

    async def _ask(self, request: PermissionRequest) -> tuple[PermissionDecision, str]:
        with anyio.CancelScope() as patience, self._patient(patience.cancel):
            if self._asking.handler is None:
                await anyio.sleep_forever()
            else:
                answer = self._asking.handler(request)
                return await answer if isawaitable(answer) else answer, self._recording.by
        return PermissionDecision("deny", message=NOBODY_ANSWERED), "nobody"

    @contextmanager
    def _patient(self, tired: Callable[[], None]) -> Iterator[None]:
        """Call *tired* once the block has lasted so long that somebody could have answered."""
        left = self._asking.timeout

        def beat(awake: float) -> None:
            nonlocal left
            left -= 0.0 if self._recording.down else awake
            if left <= 0:
                tired()

        leave = every(SLOW, beat)
        try:
            yield
        finally:
            leave()

    def _asks_anew(self, request: PermissionRequest) -> bool:
        """Under the name of *request* another one is open by now."""
        asked = (one for one in self._conversation.open_requests if one.id == request.id)
        return any(one is not request for one in asked)

    async def _settled(self, request: PermissionRequest) -> RequestDecided:
        """Who has decided in our place: somebody at another terminal, or the agent itself."""
        began = anyio.current_time()
        with anyio.move_on_after(_RECALLING), suppress(OptioAgentsError):
            async with self._recalling:
                if self._recalled_at < began:  # else one look tells of all that end together
                    now = anyio.current_time()
                    self._answered = await self._agent.names_answered()
                    self._recalled_at = now
            for name in filter(self._answered, request.names):
                if given := await self._agent.find_answer(name):
                    if given.reason:  # likewise
                        await self._queue_reason(request_name(name), given.reason, given.by)
                    behavior = self._wording.behavior_of(given.data, request)
                    return RequestDecided(request.id, behavior, given.by)
        return RequestDecided(request.id, "settled", "another terminal, or the agent itself")

    async def notice(self) -> None:
        """Ask nobody what was decided elsewhere: it tells when what was allowed has ended."""
        records = self._recording.records
        while records.path is not None:  # else nobody else writes there
            while not self._deciding:
                await self._bell.next.wait()
            bell = Bell()
            try:
                with ringing(bell, records.path):
                    while self._deciding:
                        news = bell.next
                        undecided = {row.value["id"] for row in await records.open_requests()}
                        for request in self._deciding.keys() - undecided:
                            self._deciding[request][0].cancel()
                        with anyio.move_on_after(SLOWLY):
                            await news.wait()
            except StoreError as error:  # whoever writes there tells, too
                _log.info("decisions cannot be read: %s", error)
                await anyio.sleep(SLOWLY)

    def _stand_waiting(self) -> None:
        """Say what it waits for, on a line."""
        if self._conversation.state.phase == "waiting for permission":
            request = self._conversation.open_requests[0]
            about = ""
            for name in _TELLING:
                if name in request.input:
                    about = self._recording.secrets.hide(str(request.input[name]))
                    break
            shown = f" `{about[:200]}`" if about else ""
            self._recording.stand("waiting", f"you: {request.tool_name}{shown}")

    def settle_left(self) -> None:
        """What an earlier owner left open and is so no more, the agent has settled itself."""
        still_open = {one.id for one in self._conversation.open_requests}
        for request in self.left_open - still_open:
            self._recording.post(RequestDecided(request, "settled", "the agent itself"))
        self.left_open &= still_open

    # Why a request was denied, where its answer could not say so: it is the next message

    async def pass_reason(self, request: PermissionRequest, words: str) -> None:
        await self._queue_reason(request_name(request.names[0]), words, self._recording.by)

    async def recall_reasons(self, said: Collection[str]) -> None:
        """Who gave one may have died before it was kept as a message, or written down."""
        for request, given in (await self._agent.reasons()).items():
            await self._queue_reason(request, given.reason, given.by, said=said)

    async def _queue_reason(
        self, request: str, words: str, by: str, *, said: Collection[str] = ()
    ) -> None:
        name = f"reason-{request}"
        if name not in said:
            await self._agent.queue(name, words)
        await self._recording.add(MessageSent(name, words, by))

    async def serve(self, call: ToolCall) -> object:
        """It calls a tool or a hook of ours; where we have none such, who has may come yet."""
        served = self._asking.served
        if served is not None and served.knows(call):
            return await served.call(call)
        words = f"{self._label} waits for {call.name}, which this supervisor does not have"
        self._recording.post(Notice(words))
        with anyio.CancelScope() as patience, self._patient(patience.cancel):
            await anyio.sleep_forever()
        raise AgentError(f"nobody serves {call.name}")


# What needs nobody's decision: it was taught to report, and to deliver


def is_report(agent: Agent, command: object) -> bool:
    """*command* appends one entry to the log of this session, as it was taught, and no more."""
    found = _ENTRY.fullmatch(command) if isinstance(command, str) else None
    return found is not None and found["log"] in {shlex.quote(log) for log in _logs(agent)}


def delivered_to(agent: Agent, shown: Mapping[str, Any]) -> tuple[str, ...]:
    """The directories of deliverables of this session, where a file is all that is to be changed.

    Every path that is shown must lie there; none if one does not.
    """
    changes = shown.get("changes")
    paths = [one.get("path") for one in changes or () if isinstance(one, dict)]
    paths += [shown[name] for name in _FILES if name in shown]
    roots = {f"{posixpath.dirname(log)}/deliverables" for log in _logs(agent)}
    found = [_root_of(posixpath.join(agent.cwd, str(path)), roots) for path in paths]
    return tuple({root for root in found if root}) if all(found) else ()


def _root_of(path: str, roots: Iterable[str]) -> str | None:
    if posixpath.normpath(path) != path:
        return None
    return next((root for root in roots if path.startswith(f"{root}/")), None)


def _logs(agent: Agent) -> list[str]:
    logs = setup_of(agent).get("logs")
    return [one for one in logs if isinstance(one, str)] if isinstance(logs, list) else []
