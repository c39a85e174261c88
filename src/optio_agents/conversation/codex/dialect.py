"""Codex's app-server as a dialect. Pure.

`turn/completed` tells how a turn went, so nothing has to be guessed: completed, interrupted or
failed. Completed without a message of the agent's is empty. What the model refused in words is
completed here, too: nothing marks it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from optio_agents.checklist import todo_update_from_payload
from optio_agents.conversation import json_rpc
from optio_agents.conversation.contract import (
    Attachment,
    ContextUsage,
    Event,
    PermissionRequest,
    TokenUsage,
    TurnOutcome,
    TurnResult,
)
from optio_agents.conversation.dialect import (
    AllowanceUsed,
    Fact,
    Limit,
    LimitChanged,
    ListChanged,
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    Reading,
    Ready,
    ReplyOwed,
    TurnOver,
    Unusable,
    text_of,
)
from optio_agents.conversation.json_lines import LINE_LIMIT, as_dict, as_list, read_events
from optio_agents.conversation.json_rpc import RequestId, control_answered, failure_of, id_of
from optio_agents.conversation.wire import OutputLines

from . import wire


@dataclass(frozen=True, slots=True)
class CodexSetup:
    """What the handshake settles."""

    cwd: str
    continues: str | None = None  # a thread of its own to go on with
    fork: bool = False  # in a copy of it
    model: str | None = None
    sandbox: wire.Sandbox = "workspace-write"
    instructions: str | None = None  # said in front of all else, to the model


class CodexDialect:
    """What one process says and hears."""

    line_limit = LINE_LIMIT
    carries_reasons = False
    controls = ("model", "reasoning_effort")
    permission_answer = staticmethod(wire.permission_answer)

    def __init__(self, setup: CodexSetup) -> None:
        self._setup = setup
        self._flight = dict[str, str | None]()  # messages no turn has ended, with their turn
        self._read = set[str]()
        self._open = dict[str, RequestId]()
        self._items = dict[str, Event]()  # that are under way: what requests are about
        self._turn: str | None = None  # that runs
        self._text = ""
        self._usage: TokenUsage | None = None
        self._limited = False
        self._resets: float | None = None  # when what the account may use is renewed, if it is used
        self._cancelled = False
        self._left_over = False  # a turn was interrupted, and what it runs may go on
        self._settings = dict[str, str]()  # that go along with messages
        self.context: ContextUsage | None = None
        self.session_id: str | None = None

    @property
    def ready(self) -> bool:
        return self.session_id is not None and not self.running

    @property
    def running(self) -> bool:
        return self._turn is not None or bool(self._flight)

    @property
    def busy(self) -> bool:
        return self.running

    def piece(self, event: Event) -> str:
        match event:
            case {"method": "item/agentMessage/delta", "params": {"delta": str(text)}}:
                return text
        return ""

    # -- what it says

    def read(self, output: OutputLines, now: float) -> Reading:
        events, indices, kinds = read_events(output.lines, output.cut, key="method")
        facts = list[Fact]()
        if kinds is None or not kinds <= _FREQUENT:
            for index, event in enumerate(events):
                # it may be anything, also what cannot be hashed
                if type(method := event.get("method")) is not str or method not in _FREQUENT:
                    facts += self._feed(event, output.places[indices[index]])
        return Reading(events, facts)

    def _feed(self, event: Event, place: int) -> Iterator[Fact]:
        request_id, method, params = id_of(event), event.get("method"), event.get("params")
        if isinstance(method, str):
            if request_id is not None:
                yield from self._asked(event, method, request_id, place)
            elif isinstance(params, dict):
                yield from self._news(method, params, event)
                if self._left_over:
                    self._left_over = False
                    yield ReplyOwed("optio-clean", place, wire.clean(self.session_id or ""))
        elif request_id == wire.INITIALIZE:
            if "error" in event:
                yield Unusable(f"it refused to begin: {failure_of(event['error'])}")
            else:
                yield ReplyOwed(wire.SESSION, place, wire.initialized() + self._enter())
        elif request_id == wire.SESSION:
            yield from self._entered(event)
        elif isinstance(request_id, str) and request_id in self._flight:
            yield from self._taken(request_id, event)
        elif isinstance(request_id, str) and ("result" in event or "error" in event):
            yield control_answered(request_id, event)

    # the handshake

    def _enter(self) -> bytes:
        setup = self._setup
        options = {
            "cwd": setup.cwd,
            "approvalPolicy": "on-request",
            "sandbox": setup.sandbox,
            "model": setup.model,
            "developerInstructions": setup.instructions,
            "threadId": setup.continues,
        }
        verb = "thread/start"
        if setup.continues is not None:
            verb = "thread/fork" if setup.fork else "thread/resume"
        given = {name: value for name, value in options.items() if value is not None}
        return json_rpc.request(wire.SESSION, verb, **given)

    def _entered(self, event: Event) -> Iterator[Fact]:
        match event.get("result"):
            case {"thread": {"id": str(thread)}, **rest} if thread:
                if rest.get("approvalPolicy", "on-request") != "on-request":
                    yield Unusable("its own settings forbid it to ask before it does something")
                    return
                self.session_id = thread
                yield Ready()
            case _:
                yield Unusable(f"it gives us no thread: {failure_of(event.get('error'))}")

    # what it asks

    def _asked(
        self, event: Event, method: str, request_id: RequestId, place: int
    ) -> Iterator[Fact]:
        params = event.get("params")
        if method not in {wire.COMMAND, wire.CHANGE} or not isinstance(params, dict):
            yield ReplyOwed(str(request_id), place, json_rpc.refusal(request_id, method))
            return
        if str(request_id) in self._open:
            return  # a resume asks again
        item = params.get("itemId")
        known = self._items.get(item, {}) if isinstance(item, str) else {}
        request = wire.permission_request(event, request_id, known, place)
        self._open[request.id] = request_id
        yield PermissionAsked(request)

    # what it does

    def _news(  # noqa: C901 - one case for each
        self, method: str, params: dict[str, Any], event: Event
    ) -> Iterator[Fact]:
        if self.session_id is not None and params.get("threadId") not in (
            None,
            self.session_id,
        ):
            return  # an agent that it has started itself
        match method:
            case "turn/started":
                if isinstance(turn := as_dict(params.get("turn")).get("id"), str):
                    self._turn, self._text, self._usage = turn, "", None
            case "item/started" | "item/completed":
                yield from self._item(params.get("item"), over=method == "item/completed")
            case "serverRequest/resolved":
                asked = params.get("requestId")
                if self._open.get(str(asked)) == asked and asked is not None:
                    yield self._settle(str(asked))
            case "thread/tokenUsage/updated" | "account/rateLimits/updated":
                self._count(params)
                if windows := wire.windows_of(params):
                    yield AllowanceUsed(windows)
            case "error" if params.get("willRetry") is True:
                self._limited = True
                yield LimitChanged(Limit(None, failure_of(params.get("error"))))
            case "turn/plan/updated" if (todo := todo_update_from_payload(params)) is not None:
                yield ListChanged(todo)
            case "turn/completed":
                yield from self._over(as_dict(params.get("turn")), event)

    def _count(self, params: dict[str, Any]) -> None:
        if "rateLimits" in params:
            self._resets = _resets(as_dict(params["rateLimits"]))
            return
        tokens = as_dict(params.get("tokenUsage"))
        last, size = as_dict(tokens.get("last")), tokens.get("modelContextWindow")
        self._usage = _usage(last, self._usage)
        if type(used := last.get("totalTokens")) is int:
            self.context = ContextUsage(used, size if type(size) is int else None)

    def _item(self, value: object, *, over: bool) -> Iterator[Fact]:
        item = as_dict(value)
        if self._limited:  # its model answers again
            self._limited = False
            yield LimitChanged(None)
        name = item.get("id")
        match item:
            case {"type": "userMessage", "clientId": str(uuid)} if uuid in self._flight:
                self._flight[uuid] = self._flight[uuid] or self._turn
                yield from self._read_one(uuid)
            case {"type": "agentMessage", "text": str(text)} if over:
                self._text = text
        if isinstance(name, str):
            if over:
                self._items.pop(name, None)
            else:
                self._items[name] = item

    def _taken(self, uuid: str, event: Event) -> Iterator[Fact]:
        """Its answer to a message: this is no end, unless it is an error."""
        if "error" not in event:
            turn = as_dict(as_dict(event.get("result")).get("turn")).get("id")
            if isinstance(turn, str):
                self._flight[uuid] = self._turn = turn
            return
        del self._flight[uuid]
        self._read.discard(uuid)
        words = failure_of(event["error"])
        turn_result = TurnResult(
            outcome="failed", failure=words, evidence="the message was refused", raw=event
        )
        yield TurnOver(turn_result, (uuid,))

    def _read_one(self, uuid: str) -> Iterator[Fact]:
        if uuid not in self._read:
            self._read.add(uuid)
            yield MessageRead(uuid)

    def _settle(self, name: str) -> PermissionSettled:
        del self._open[name]
        return PermissionSettled(name)

    def _over(self, turn: dict[str, Any], event: Event) -> Iterator[Fact]:
        yield from [self._settle(name) for name in list(self._open)]
        limit = _limit(as_dict(turn.get("error")).get("codexErrorInfo"), self._resets)
        if self._limited or limit is not None:
            self._limited = limit is not None
            yield LimitChanged(limit)
        answered = tuple(uuid for uuid, its in self._flight.items() if its == turn.get("id"))
        for uuid in answered:
            yield from self._read_one(uuid)
            del self._flight[uuid]
            self._read.discard(uuid)
        result = self._judge(turn, event)
        self._left_over = result.outcome == "cancelled"
        self._turn, self._text, self._usage, self._cancelled = None, "", None, False
        self._items.clear()
        yield TurnOver(result, answered)

    def _judge(self, turn: dict[str, Any], event: Event) -> TurnResult:
        items = map(as_dict, as_list(turn.get("items")))
        said = [one.get("text") for one in items if one.get("type") == "agentMessage"]
        last, status = said[-1] if said else None, turn.get("status")
        text = last if isinstance(last, str) and last else self._text
        outcome: TurnOutcome
        failure, evidence = None, f"status {str(status)[:60]}"
        match status:
            case "interrupted":
                by = "" if self._cancelled else " by the agent itself"
                outcome, failure = "cancelled", f"interrupted{by}"
            case "failed":
                outcome, failure = "failed", failure_of(turn.get("error"))
            case "completed" if text.strip():
                outcome, evidence = "completed", f"{evidence}, a message"
            case "completed":
                outcome, failure = "empty", "it ended without a word"
            case _:
                outcome, failure = "cut", f"it ended by {str(status)[:60]}"
        return TurnResult(
            outcome=outcome,
            text=text if outcome == "completed" else "",
            failure=failure,
            usage=self._usage,
            evidence=evidence,
            raw=event,
        )

    # -- what we say

    def message(
        self, uuid: str, text: str, *, command: bool, attachments: Sequence[Attachment] = ()
    ) -> bytes:
        assert self.session_id is not None  # it is ready; it carries out no commands
        return wire.message(self.session_id, uuid, text, self._settings, attachments)

    def steering(self, request_id: str, text: str) -> bytes:
        return wire.steer(self.session_id or "", self._turn or "", request_id, text)

    def setting(self, request_id: str, control_id: str, value: str | bool) -> bytes:
        name = "model" if control_id == "model" else "effort"
        self._settings[name] = text_of(control_id, value)
        return b""  # it counts for the turn that it is said with, and from then on

    def sent(self, uuid: str) -> None:
        self._flight[uuid] = None

    def forget(self, uuid: str) -> None:
        self._flight.pop(uuid, None)

    def withdrawal(self, request: PermissionRequest) -> bytes | None:
        return None  # it settles its questions itself

    def interruption(self, request_id: str) -> bytes:
        self._cancelled = self.running
        return wire.interrupt(request_id, self.session_id or "", self._turn or "")

    def farewell(self) -> bytes | None:
        return None  # the end of its input ends it


_FREQUENT = frozenset({"item/agentMessage/delta", "item/commandExecution/outputDelta"})


def _limit(info: object, resets: float | None) -> Limit | None:
    """What the error of a turn says of a limit."""
    if info == "usageLimitExceeded":
        return Limit(resets, "usage limit")
    codes = [as_dict(one).get("httpStatusCode") for one in as_dict(info).values()]
    return Limit(None, "rate limit") if 429 in codes else None


def _resets(limits: dict[str, Any]) -> float | None:
    """When the last of the windows that are used up begins anew (s since the epoch)."""
    windows = [as_dict(limits.get(name)) for name in ("primary", "secondary")]
    ends = [
        float(end)
        for one in windows
        if isinstance(used := one.get("usedPercent"), int | float) and used >= 100
        if isinstance(end := one.get("resetsAt"), int | float) and abs(end) < 1 << 40
    ]
    return max(ends, default=None)


def _usage(last: dict[str, Any], before: TokenUsage | None) -> TokenUsage:
    """Of the turn so far: *last* is one call of the model's."""

    def add(name: str, known: int | None) -> int | None:
        count = last.get(name)
        return known if type(count) is not int else count + (known or 0)

    known = before or TokenUsage()
    return TokenUsage(
        add("inputTokens", known.input_tokens),
        add("outputTokens", known.output_tokens),
        add("cachedInputTokens", known.cache_read_input_tokens),
        add("cacheWriteInputTokens", known.cache_creation_input_tokens),
    )
