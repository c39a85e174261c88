"""The CLI's own questions: what is open, what was withdrawn, what is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from optio_agents.conversation.contract import Event, PermissionDecision, PermissionRequest

from .stream_json import refusal


@dataclass(frozen=True, slots=True)
class Asked:
    """A permission request to be decided."""

    request: PermissionRequest


@dataclass(frozen=True, slots=True)
class Settled:
    """A request that needs no decision of ours any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A request of a kind that nobody here meets: `answer` must be said, or the CLI waits."""

    request_id: str
    answer: bytes


Question: TypeAlias = Asked | Settled | Refuse


class PermissionLedger:
    """The requests that wait for an answer, by id."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = dict[str, PermissionRequest]()

    @property
    def open(self) -> tuple[PermissionRequest, ...]:
        """In the order they were asked."""
        return tuple(self._open.values())

    def answered(self, request_id: str) -> bool:
        """An answer is about to be said. False if it is not wanted (any more)."""
        return self._open.pop(request_id, None) is not None

    def unanswered(self, request: PermissionRequest) -> None:
        """It could not be said."""
        self._open[request.id] = request

    def feed(self, event: Event) -> list[Question]:
        """Take one event of the CLI's, of the types in `TYPES`."""
        match event:
            case {"type": "control_request", "request_id": str() as request_id}:
                return [self._asked(request_id, event)]
            case {"type": "control_cancel_request", "request_id": str() as request_id}:
                return self._settle([request_id])
            case {"type": "user"} if self._open:  # somebody answered, or the tool was dropped
                used = set(_tool_results(event))
                return self._settle(
                    [id_ for id_, asked in self._open.items() if _tool_use(asked) in used]
                )
            case {"type": "system", "state": "idle"} if self._open:
                return self._settle(list(self._open))
        return []

    TYPES = frozenset({"control_request", "control_cancel_request", "user", "system"})

    def _asked(self, request_id: str, event: Event) -> Question:
        match event.get("request"):
            case {"subtype": "can_use_tool", "tool_name": str() as tool, "input": dict() as given}:
                request = PermissionRequest(tool, given, event)
                self._open[request_id] = request
                return Asked(request)
            case {"subtype": subtype}:
                words = f"optio-agents does not serve control requests of subtype {subtype!r}"
            case _:
                words = "this control request has no subtype"
        return Refuse(request_id, refusal(request_id, words))

    def _settle(self, request_ids: list[str]) -> list[Question]:
        return [Settled(id_) for id_ in request_ids if self._open.pop(id_, None) is not None]


def _tool_use(request: PermissionRequest) -> object:
    return request.raw["request"].get("tool_use_id", "")


def _tool_results(event: Event) -> Iterator[object]:
    message = event.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == "tool_result":
            yield block.get("tool_use_id")


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
            return all(
                isinstance(one, dict) and isinstance(one.get("label"), str) for one in options
            )
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
    about = request.raw.get("request")
    suggested = about.get("permission_suggestions") if isinstance(about, dict) else None
    for rule in suggested if isinstance(suggested, list) else ():
        if isinstance(rule, dict) and (words := _granted_by(rule)) and all(words):
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
