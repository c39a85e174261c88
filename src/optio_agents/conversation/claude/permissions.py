"""The CLI's own questions: what is open, what was withdrawn, what is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from optio_agents.conversation.contract import Event, PermissionDecision, PermissionRequest
from optio_agents.conversation.dialect import (
    CallAsked,
    PermissionAsked,
    PermissionSettled,
    ReplyOwed,
)
from optio_agents.conversation.json_lines import as_dict, as_list

from .stream_json import refusal
from .tools import asked

Question: TypeAlias = PermissionAsked | PermissionSettled | CallAsked | ReplyOwed


class PermissionLedger:
    """The requests that the CLI waits for, and what settles each."""

    __slots__ = ("_open", "_tools")

    def __init__(self, tools: Sequence[object] = ()) -> None:
        """*tools* are those of ours, as the CLI is told of them."""
        self._tools = tools
        self._open = dict[str, str | None]()  # with the use of a tool that each is about

    def feed(self, event: Event, place: int) -> list[Question]:
        """Take one event of the CLI's, of the types in `TYPES`, whose line stands at *place*."""
        match event:
            case {"type": "control_request", "request_id": str() as request_id}:
                return [self._asked(request_id, event, place)]
            case {"type": "control_cancel_request", "request_id": str() as request_id}:
                return self._settle([request_id])
            case {"type": "user"} if self._open:  # somebody answered, or the tool was dropped
                used = set(_tool_results(event))
                return self._settle([id_ for id_, tool in self._open.items() if tool in used])
            case {"type": "system", "state": "idle"}:  # a hook may outlast its turn
                return self._settle([id_ for id_, tool in self._open.items() if tool is not None])
        return []

    TYPES = frozenset({"control_request", "control_cancel_request", "user", "system"})

    def _asked(self, request_id: str, event: Event, place: int) -> Question:
        request = event.get("request")
        if (ours := asked(request_id, request, event, place, self._tools)) is not None:
            if isinstance(ours, CallAsked):  # a hook may be asked behind the use of its tool
                self._open[request_id] = ours.call.id if ours.call.event is None else None
            return ours
        match request:
            case {
                "subtype": "can_use_tool",
                "tool_name": str() as tool,
                "input": dict() as given,
                **rest,
            }:
                used = rest.get("tool_use_id")
                self._open[request_id] = used if isinstance(used, str) else None
                return PermissionAsked(PermissionRequest(tool, given, event, request_id, place))
            case {"subtype": subtype}:
                words = (
                    f"optio-agents does not serve control requests of subtype {str(subtype)[:80]!r}"
                )
            case _:
                words = "this control request has no subtype"
        return ReplyOwed(request_id, place, refusal(request_id, words))

    def _settle(self, request_ids: list[str]) -> list[Question]:
        known = [id_ for id_ in request_ids if id_ in self._open]
        for id_ in known:
            del self._open[id_]
        return [*map(PermissionSettled, known)]


def _tool_results(event: Event) -> Iterator[str]:
    for block in as_list(as_dict(event.get("message")).get("content")):
        match block:
            case {"type": "tool_result", "tool_use_id": str(used)}:
                yield used


def questions(request: PermissionRequest) -> list[Mapping[str, Any]]:
    """What the agent asks its user (tool AskUserQuestion): question, options, multiSelect.

    Empty where it is another tool, or not of that shape: then there is a permission to decide.
    """
    asked = request.input.get("questions")
    if request.tool_name != "AskUserQuestion" or not isinstance(asked, list):
        return []
    return asked if all(map(_is_question, asked)) else []


def _is_question(asked: object) -> bool:
    match asked:
        case {"question": str(), "options": [*options]} if options:
            return all(isinstance(as_dict(one).get("label"), str) for one in options)
    return False


def answer_questions(request: PermissionRequest, answers: Mapping[str, str]) -> PermissionDecision:
    """Answer each question, by its text, with the label of an option or with other words."""
    return PermissionDecision("allow", {**request.input, "answers": dict(answers)})


def allow_for_session(request: PermissionRequest) -> PermissionDecision:
    """Allow, and let the CLI not ask again for the like while this session lasts.

    Of its suggestions only what `grants` tells is taken, never another permission mode.
    """
    rules = [{**rule, "destination": "session"} for rule in _suggestions(request)]
    return PermissionDecision("allow", updated_permissions=rules)


def grants(request: PermissionRequest) -> tuple[str, ...]:
    """What `allow_for_session` lets it do unasked, as a person reads it; empty for nothing."""
    return tuple(words for rule in _suggestions(request) for words in _granted_by(rule))


def _suggestions(request: PermissionRequest) -> Iterator[Mapping[str, Any]]:
    """Those that allow something, and that we can put into words whole."""
    suggested = as_dict(request.raw.get("request")).get("permission_suggestions")
    for rule in map(as_dict, as_list(suggested)):
        if (words := _granted_by(rule)) and all(words):
            yield rule


def _granted_by(rule: Mapping[str, Any]) -> list[str]:
    match rule:
        case {"type": "addRules", "behavior": "allow", "rules": [*rules]}:
            return [_rule_in_words(one) for one in rules]
        case {"type": "addDirectories", "directories": [*paths]}:
            return [f"files in {path}" if isinstance(path, str) else "" for path in paths]
    return [""]


def _rule_in_words(rule: object) -> str:
    match rule:
        case {"toolName": str(tool), "ruleContent": str(what)} if what:
            return f"{tool}({what})"
        case {"toolName": str(tool), **rest} if not rest.get("ruleContent"):
            return f"all of {tool}"
    return ""
