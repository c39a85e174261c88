"""The Agent Client Protocol (version 1, over standard input and output) as a dialect. Pure.

The handshake is a chain of answers: to `initialize` a session is asked for, to the session the
mode that asks is chosen, and then messages can be said. Each step is a reply to a line of the
output, so it is said once, however many supervisors there are and wherever one of them dies.

Of eight agents six do harm when a second prompt comes while a turn runs: they cancel the first
one, fail it, merge both or refuse. So `ready` is false until the turn has ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optio_agents.conversation import json_rpc
from optio_agents.conversation.contract import (
    Attachment,
    ContextUsage,
    Event,
    PermissionDecision,
    PermissionRequest,
    ToolServer,
)
from optio_agents.conversation.dialect import (
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
from optio_agents.conversation.json_rpc import (
    CONTROL,
    RequestId,
    control_answered,
    failure_of,
    id_of,
)
from optio_agents.conversation.wire import OutputLines

from . import wire
from .plans import todo_in
from .traits import UNKNOWN, Traits, traits_of
from .turns import TurnText, judge, tokens_of


@dataclass(frozen=True, slots=True)
class AcpSetup:
    """What the handshake settles."""

    cwd: str  # absolute
    continues: str | None = None  # a session of the agent's own to go on with
    fork: bool = False  # in a copy of it
    mode: str | None = None  # instead of the one that asks
    mcp_servers: Sequence[ToolServer] = ()


class AcpDialect:
    """What one process says and hears."""

    line_limit = LINE_LIMIT
    carries_reasons = False
    controls = ("model", "mode")

    def __init__(self, setup: AcpSetup) -> None:
        self._setup = setup
        self._traits: Traits = UNKNOWN
        self._loads = False  # the answer to a load comes: history is no news
        self._open = dict[str, tuple[RequestId, object]]()  # with the use of a tool each is about
        self._calls = dict[str, dict[str, Any]]()  # what was said of each use of a tool
        self._flight = dict[str, bool]()  # messages that no turn has ended; True: it is read
        self._unread = False  # a message may be: its first sign confirms it
        self._cancelled = self._limited = False
        self._text = TurnText()
        self._tokens = 0
        self._usable = False
        self.context: ContextUsage | None = None
        self._steers = False  # it hears what is said in its turn
        self._prompts: dict[str, Any] = {}  # what they may hold
        self._options = False  # its model is one of the options of its session
        self.session_id: str | None = None

    @property
    def ready(self) -> bool:
        return self._usable and not self._flight

    @property
    def running(self) -> bool:
        return bool(self._flight)

    @property
    def busy(self) -> bool:
        return bool(self._flight)

    def piece(self, event: Event) -> str:
        match event:
            case {
                "method": "session/update",
                "params": {
                    "update": {
                        "sessionUpdate": "agent_message_chunk",
                        "content": {"text": str(text)},
                    }
                },
            }:
                return text
        return ""

    # -- what it says

    def read(self, output: OutputLines, now: float) -> Reading:
        events, indices, _ = read_events(output.lines, output.cut)
        facts, index = list[Fact](), 0
        while (index := self._say_on(events, index)) < len(events):
            event = events[index]
            if event.get("method") == "session/update":
                facts += self._update(event.get("params"))
            elif "jsonrpc" in event or "id" in event:
                facts += self._feed(event, output.places[indices[index]])
            index += 1
        return Reading(events, facts)

    def _say_on(self, events: Sequence[Event], start: int) -> int:
        """Read chunks of what it is saying, most of what comes, on a short way; gives their end."""
        index = start
        if self._unread or self._loads or not self._flight:
            return index
        say, traits = self._text.say, self._traits
        try:
            for index in range(start, len(events)):
                event = events[index]
                update = event["params"]["update"]
                if (
                    update["sessionUpdate"] != "agent_message_chunk"
                    or event["method"] != "session/update"
                ):
                    return index
                say(update.get("messageId"), update["content"]["text"] + "", traits)
        except (TypeError, KeyError, IndexError, AttributeError):  # it may be anything
            return index
        return len(events)

    def _feed(self, event: Event, place: int) -> Iterator[Fact]:
        request_id, method = id_of(event), event.get("method")
        if isinstance(method, str):
            if method == "$/cancel_request":
                yield from self._withdrawn(event.get("params"))
            elif request_id is not None:
                yield self._asked(event, method, request_id, place)
        elif request_id == wire.INITIALIZE:
            yield from self._greeted(event, place)
        elif request_id == wire.SESSION:
            yield from self._entered(event, place)
        elif request_id == wire.MODE:
            yield from self._in_mode(event)
        elif isinstance(request_id, str) and ("result" in event or "error" in event):
            if request_id.startswith(CONTROL):
                answered = control_answered(request_id, event)
                idle = answered.value.get("outcome") == "promptRequired"
                yield replace(answered, refused="no turn runs") if idle else answered
            else:  # all else that we ask is a prompt
                yield from self._over(request_id, event)

    # the handshake

    def _greeted(self, event: Event, place: int) -> Iterator[Fact]:
        match event.get("result"):
            case {"protocolVersion": 1, **rest}:
                self._traits = traits_of(as_dict(rest.get("agentInfo")).get("name"))
                able = as_dict(rest.get("agentCapabilities"))
                more = as_dict(as_dict(rest.get("_meta")).get("steering"))
                self._steers = more.get("supported") is True
                self._prompts = as_dict(able.get("promptCapabilities"))
                yield from self._enter(able, place)
            case {"protocolVersion": version}:
                yield Unusable(f"it speaks version {str(version)[:20]} of ACP, and we version 1")
            case _:
                yield Unusable(f"it refused to begin: {failure_of(event.get('error'))}")

    def _enter(self, able: dict[str, Any], place: int) -> Iterator[Fact]:
        servers = self._setup.mcp_servers
        if not as_dict(able.get("mcpCapabilities")).get("http"):
            servers = [one for one in servers if not (one.url and one.optional)]
        if any(one.url for one in servers) and not as_dict(able.get("mcpCapabilities")).get("http"):
            yield Unusable("it uses no MCP servers over HTTP")
            return
        listed = [wire.mcp_server(one) for one in servers]
        params: dict[str, object] = {"cwd": self._setup.cwd, "mcpServers": listed}
        verb = "session/new"
        if (past := self._setup.continues) is not None:
            params["sessionId"] = past
            verbs = as_dict(able.get("sessionCapabilities"))
            if self._setup.fork:
                verb = "session/fork"
                if "fork" not in verbs:
                    yield Unusable("it cannot make a copy of a session of its own")
                    return
            elif "resume" in verbs:
                verb = "session/resume"
            elif able.get("loadSession") is True:
                verb, self._loads = "session/load", True
            else:
                yield Unusable("it cannot go on with a session of its own")
                return
        yield ReplyOwed(wire.SESSION, place, json_rpc.request(wire.SESSION, verb, **params))

    def _entered(self, event: Event, place: int) -> Iterator[Fact]:
        self._loads = False
        answer = event.get("result")
        if not isinstance(answer, dict):
            yield Unusable(f"it gives us no session: {failure_of(event.get('error'))}")
            return
        session = answer.get("sessionId", self._setup.continues)
        if not isinstance(session, str) or not session:
            yield Unusable("it gives us a session without an id")
            return
        self.session_id = session
        self._options = "model" in _ids(answer.get("configOptions"))
        modes = as_dict(answer.get("modes"))
        known = _ids(modes.get("availableModes"))
        wanted: Sequence[str] = (self._setup.mode,) if self._setup.mode else self._traits.asks
        mode = next((one for one in wanted if one in known), None)
        if mode is not None and mode != modes.get("currentModeId"):
            # also behind a resume: some forget it
            words = json_rpc.request(wire.MODE, "session/set_mode", sessionId=session, modeId=mode)
            yield ReplyOwed(wire.MODE, place, words)
        elif mode is None and wanted and known:
            offered = ", ".join(map(str, known))
            yield Unusable(f"it has no mode {' or '.join(wanted)}, of {offered}: it might not ask")
        else:
            yield from self._begin()

    def _in_mode(self, event: Event) -> Iterator[Fact]:
        if "error" in event:
            yield Unusable(f"it does not go into the mode that asks: {failure_of(event['error'])}")
        else:
            yield from self._begin()

    def _begin(self) -> Iterator[Fact]:
        self._usable = True
        yield Ready()

    # what it asks

    def _asked(self, event: Event, method: str, request_id: RequestId, place: int) -> Fact:
        if method != "session/request_permission":
            return ReplyOwed(str(request_id), place, json_rpc.refusal(request_id, method))
        call = as_dict(as_dict(event.get("params")).get("toolCall")).get("toolCallId")
        known = self._calls.get(call, {}) if isinstance(call, str) else {}
        request = wire.permission_request(event, request_id, known, place)
        self._open[request.id] = request_id, call
        return PermissionAsked(request)

    def _withdrawn(self, params: object) -> Iterator[Fact]:
        asked = as_dict(params).get("requestId")
        for name, (request_id, _) in list(self._open.items()):
            if request_id == asked and type(request_id) is type(asked):
                yield self._settle(name)

    def _settle(self, name: str) -> PermissionSettled:
        del self._open[name]
        return PermissionSettled(name)

    # what it does

    def _update(self, params: object) -> Sequence[Fact]:
        update = params.get("update") if type(params) is dict else None
        if type(update) is not dict or self._loads:
            return ()
        if self._setup.continues is not None and not self._flight:
            return ()  # history: some tell it behind their answer, too
        kind = update.get("sessionUpdate")
        if kind in ("plan", "tool_call", "tool_call_update") and (todo := todo_in(update)):
            return [ListChanged(todo), *self._follow(kind, update)]
        return self._follow(kind, update)

    def _follow(self, kind: object, update: dict[str, Any]) -> Sequence[Fact]:
        if kind == "agent_message_chunk":  # most of what comes
            content = update.get("content")
            if type(content) is dict and type(text := content.get("text")) is str:
                self._text.say(update.get("messageId"), text, self._traits)
        elif kind == "tool_call" or kind == "tool_call_update":
            return [*self._read_one(), *self._use(update)]
        elif kind == "usage_update":
            used, size = update.get("used"), update.get("size")
            if type(used) is int:
                self.context = ContextUsage(used, size if type(size) is int else None)
            return ()
        elif kind != "agent_thought_chunk" and kind != "plan":
            return ()
        return self._read_one() if self._unread else ()

    def _read_one(self) -> Sequence[Fact]:
        uuid = next(iter(self._flight), None)
        self._unread = False
        if uuid is None or self._flight[uuid]:
            return ()
        self._flight[uuid] = True
        return (MessageRead(uuid),)

    def _use(self, update: dict[str, Any]) -> Iterator[Fact]:
        call, status = update.get("toolCallId"), update.get("status")
        self._text.use_tool(status)
        if not isinstance(call, str):
            return
        known = self._calls.setdefault(call, {})
        known.update({name: value for name, value in update.items() if name in _KEPT and value})
        # Somebody has answered. OpenCode says "in_progress" also while it waits for that.
        if status in ("completed", "failed"):
            for name, (_, about) in list(self._open.items()):
                if about == call:
                    yield self._settle(name)

    def _over(self, uuid: str, event: Event) -> Iterator[Fact]:
        if not self._flight.pop(uuid, True):
            yield MessageRead(uuid)
        yield from [self._settle(name) for name in list(self._open)]
        cancelled, before = self._cancelled, self._tokens
        turn = judge(event, self._text, self._traits, cancelled=cancelled, before=before)
        self._tokens = tokens_of(as_dict(event.get("result"))) or before
        self._text, self._cancelled = TurnText(), False
        self._unread = bool(self._flight)
        self._calls.clear()
        limited = turn.outcome == "failed" and _LIMIT.search(turn.failure or "")
        if limited or self._limited:
            self._limited = bool(limited)
            yield LimitChanged(Limit(None, "usage limit") if limited else None)
        yield TurnOver(turn, (uuid,))

    # -- what we say

    def message(
        self, uuid: str, text: str, *, command: bool, attachments: Sequence[Attachment] = ()
    ) -> bytes:
        assert self.session_id is not None  # it is ready
        if text.lstrip().startswith("/") and not command:
            text = f"{self._traits.slash}{text}"
        kinds = {file.media_type.partition("/")[0] for file in attachments}
        if not self._traits.mixes and len(kinds) > 1 and "image" in kinds:
            raise ValueError(
                "this agent drops an image beside another file: send one, then another"
            )
        return wire.prompt(self.session_id, uuid, text, attachments, self._prompts)

    def steering(self, request_id: str, text: str) -> bytes:
        if self._steers and self.session_id is not None:
            return wire.steer(self.session_id, request_id, text)
        raise ValueError(
            "this agent hears nothing while a turn runs: send waits until it has ended"
        )

    def setting(self, request_id: str, control_id: str, value: str | bool) -> bytes:
        assert self.session_id is not None
        word = text_of(control_id, value)
        if control_id == "model" and self._options:
            return wire.option(request_id, self.session_id, control_id, word)
        return wire.setting(request_id, self.session_id, control_id, word)

    def sent(self, uuid: str) -> None:
        self._flight[uuid] = False
        self._unread = True

    def forget(self, uuid: str) -> None:
        self._flight.pop(uuid, None)

    def permission_answer(self, request: PermissionRequest, decision: object) -> bytes:
        data = wire.permission_answer(request, decision)
        if getattr(decision, "behavior", "deny") != "allow":
            self._text.denied = True
            self._cancelled |= isinstance(decision, PermissionDecision) and decision.interrupt
        return data

    def withdrawal(self, request: PermissionRequest) -> bytes | None:
        return wire.withdrawal(request)

    def interruption(self, request_id: str) -> bytes:
        self._cancelled = bool(self._flight)
        return wire.cancel(self.session_id or "")

    def farewell(self) -> bytes | None:
        return None  # the end of its input ends it


_LIMIT = re.compile(
    r"\b429\b|usage limit|rate.?limit|quota|too many requests|resource.?exhausted", re.IGNORECASE
)  # the protocol has no word for it, and failures are told in words
_KEPT = frozenset({"title", "kind", "rawInput", "content", "locations"})


def _ids(offers: object) -> list[object]:
    return [one.get("id") for one in map(as_dict, as_list(offers))]
