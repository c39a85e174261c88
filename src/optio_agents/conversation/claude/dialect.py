"""The claude CLI's stream-json as a dialect: its events become facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, get_args

from optio_agents.conversation.contract import Attachment, Event, PermissionRequest
from optio_agents.conversation.dialect import (
    AllowanceUsed,
    ControlAnswered,
    Fact,
    Limit,
    LimitChanged,
    ListChanged,
    MessageRead,
    Reading,
    TurnOver,
    text_of,
)
from optio_agents.conversation.json_lines import LINE_LIMIT, as_dict, read_events
from optio_agents.conversation.wire import OutputLines

from .models import ClaudeTurnResult, Init, RateLimit, Usage, number, windows_of
from .permissions import PermissionLedger
from .stream_json import control_request, permission_answer, user_message
from .todos import TaskReader
from .turns import TurnEnd, TurnLedger

PermissionMode: TypeAlias = Literal[
    "default", "acceptEdits", "plan", "dontAsk", "auto", "manual", "bypassPermissions"
]
PERMISSION_MODES = get_args(PermissionMode)


class ClaudeDialect:
    """What one CLI process says and hears. *resumed*: it has a past, whose cost nobody knows.

    *echoes*: the CLI echoes our messages, so a turn that names none answers none. *tools*: ours,
    as it is told of them.
    """

    line_limit = LINE_LIMIT
    carries_reasons = True
    controls = ("model", "permission_mode", "mode", "reasoning_effort")
    ready = True  # it reads from its start on, and says nothing before the first message
    context = None  # it is asked for it
    permission_answer = staticmethod(permission_answer)

    def __init__(
        self, *, resumed: bool = False, echoes: bool = False, tools: Sequence[object] = ()
    ) -> None:
        self._turns = TurnLedger(named=echoes)
        self.running = self.busy = False
        self.session_id: str | None = None
        self._permissions = PermissionLedger(tools)
        self._tasks = TaskReader()
        self._commands = set[str]()  # messages that may be carried out by the CLI itself
        self._limited = False
        self._limits: Event | None = None
        self._init: Event | None = None
        self._cost = None if resumed else 0.0  # before the turn that runs; None: nobody knows
        self.usage = Usage()

    @property
    def init(self) -> Init | None:
        return Init.model_validate(self._init) if self._init else None

    @property
    def rate_limit(self) -> RateLimit | None:
        return RateLimit.model_validate(self._limits) if self._limits else None

    def piece(self, event: Event) -> str:
        match event:
            case {
                "type": "stream_event",
                "parent_tool_use_id": None,
                "event": {"delta": {"type": "text_delta", "text": str(text)}},
            }:
                return text
        return ""

    # -- what it says

    def read(self, output: OutputLines, now: float) -> Reading:
        events, indices, kinds = read_events(output.lines, output.cut, key="type")
        facts = list[Fact]()
        if kinds is None or not _TYPES.isdisjoint(kinds):
            for index, event in enumerate(events):
                # a foreign type may be anything, also what cannot be hashed
                if type(kind := event.get("type")) is str and kind in _TYPES:
                    facts += self._feed(kind, event, output.places[indices[index]], now)
        turns = self._turns
        self.running, self.busy, self.session_id = turns.running, turns.busy, turns.session_id
        return Reading(events, facts)

    def _feed(self, kind: str, event: Event, place: int, now: float) -> Iterator[Fact]:
        if kind == "control_response":
            yield from _acknowledged(event)
            return
        if kind in PermissionLedger.TYPES:
            yield from self._permissions.feed(event, place)
        if kind in _LIMIT_TYPES:
            yield from self._limit(event, now)
        if kind in TaskReader.TYPES:
            yield from map(ListChanged, self._tasks.feed(event))
        if kind in TurnLedger.TYPES:
            if event.get("subtype") == "init":
                self._init = event
            for news in self._turns.feed(event):
                yield news if isinstance(news, MessageRead) else self._over(news)

    def _over(self, end: TurnEnd) -> TurnOver:
        command = not self._commands.isdisjoint(end.answered)
        self._commands.difference_update(end.answered)
        if end.result is None:
            return TurnOver(ClaudeTurnResult.dropped(end), end.answered)
        cost = None
        if (total := number(end.result.get("total_cost_usd"))) is not None:
            cost = None if self._cost is None else max(0.0, total - self._cost)
            self._cost = total
        turn = ClaudeTurnResult.of(end.result, answered=end.answered, cost=cost, command=command)
        self.usage = self.usage.plus(turn)
        return TurnOver(turn, end.answered)

    def _limit(self, event: Event, now: float) -> Iterator[LimitChanged | AllowanceUsed]:
        """Whether the model's API turns the CLI away, as far as it says: also behind a turn."""
        limit: Limit | None = None
        match event:
            case {"type": "rate_limit_event", "rate_limit_info": dict(info)}:
                self._limits = info
                if windows := windows_of(info):
                    yield AllowanceUsed(windows)
                if info.get("status") == "rejected":
                    limit = Limit(number(info.get("resetsAt")), "usage limit")
            case {"type": "system", "subtype": "api_retry", "error_status": 429}:
                delay = number(event.get("retry_delay_ms"))
                until = None if delay is None else now + delay / 1000
                why = event.get("error")
                words = why.replace("_", " ") if isinstance(why, str) else ""
                limit = Limit(until, words or "rate limit")
            case {"type": "assistant", "error": "rate_limit"} | {"api_error_status": 429}:
                known = self._limits or {}
                if known.get("status") == "rejected":
                    limit = Limit(number(known.get("resetsAt")), "usage limit")
                else:
                    limit = Limit(None, "rate limit")
            case {"type": "assistant" | "result"}:
                pass
            case _:
                return
        if limit is not None or self._limited:
            self._limited = limit is not None
            yield LimitChanged(limit)

    # -- what we say

    def message(
        self, uuid: str, text: str, *, command: bool, attachments: Sequence[Attachment] = ()
    ) -> bytes:
        data = user_message(text, uuid, command=command, attachments=attachments)
        if command:
            self._commands.add(uuid)
        return data

    def steering(self, request_id: str, text: str) -> bytes:
        raise ValueError("messages reach its turn as they are sent")

    def setting(self, request_id: str, control_id: str, value: str | bool) -> bytes:
        word = text_of(control_id, value)
        match control_id:
            case "model":
                return control_request(request_id, "set_model", model=word)
            case "reasoning_effort":
                settings = {"effortLevel": word}
                return control_request(request_id, "apply_flag_settings", settings=settings)
        if word not in PERMISSION_MODES:  # 2.1.197 takes any word
            raise ValueError(f"{word!r} is none of {', '.join(PERMISSION_MODES)}")
        return control_request(request_id, "set_permission_mode", mode=word)

    def sent(self, uuid: str) -> None:
        self._turns.send(uuid)

    def forget(self, uuid: str) -> None:
        self._turns.forget(uuid)
        self._commands.discard(uuid)

    def withdrawal(self, request: PermissionRequest) -> bytes | None:
        return None  # it takes its question back itself

    def interruption(self, request_id: str) -> bytes:
        return control_request(request_id, "interrupt")

    def farewell(self) -> bytes | None:
        # the end of the input alone would wait for background shells and API retries
        return control_request("optio-end", "end_session")


_LIMIT_TYPES = frozenset({"rate_limit_event", "system", "assistant", "result"})
_TYPES = (
    TaskReader.TYPES
    | TurnLedger.TYPES
    | PermissionLedger.TYPES
    | _LIMIT_TYPES
    | {"control_response"}
)


def _acknowledged(event: Event) -> Iterator[ControlAnswered]:
    match event.get("response"):
        case {"subtype": "success", "request_id": str(request_id), **rest}:
            yield ControlAnswered(request_id, as_dict(rest.get("response")))  # which may be absent
        case {"request_id": str(request_id), **rest}:
            why = rest.get("error")
            words = why if isinstance(why, str) and why else "refused without a reason"
            yield ControlAnswered(request_id, {}, words)
