"""What a turn of an ACP agent has said and done so far, and how it ended. Pure.

`stopReason: end_turn` proves little: of seven agents six end a turn so whose model call failed,
was refused or cut short. So `judge` looks for what speaks against it, in this order: an error
answer; that we cancelled it; any other stop reason; nothing said and nothing done; usage that
shows that no model was asked. Refused or shortened *text* that the wire does not mark passes as
completed: nobody can tell it from an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from optio_agents.conversation.contract import Event, TokenUsage, TurnResult, gist
from optio_agents.conversation.dialect import Passage, Verdict
from optio_agents.conversation.json_lines import as_dict, as_list
from optio_agents.conversation.json_rpc import failure_of

from .traits import Traits
from .wire import text_of

_NEEDS_LOGIN = {-32000, 401}


class TurnText:
    """The chunks of the turn that runs: what of them is the answer, and whether it did a thing."""

    __slots__ = ("_last", "_message", "_pieces", "_texts", "deeds", "denied", "notices")

    def __init__(self) -> None:
        # Behind the last tool, by message; texts alone, for the collector of garbage walks through
        # whatever else is kept, again and again.
        self._texts = dict[str | None, list[str]]()
        self._message: str | None = None  # that is being said
        self._last: str | None = None  # likewise, of those that have a name
        self._pieces = self._texts.setdefault(None, [])  # of it
        self.notices = ""
        self.deeds = 0  # tools that ran to their end
        self.denied = False

    def say(self, message: object, text: str, traits: Traits) -> None:
        if traits.notice is not None and traits.notice.match(text.lstrip()):
            self.notices = text.strip()
            return
        if message != self._message:
            self._message = message if isinstance(message, str) else None
            self._last = self._message or self._last
            self._pieces = self._texts.setdefault(self._message, [])
        self._pieces.append(text)

    def use_tool(self, status: object) -> None:
        self._texts.clear()  # what it said before was on the way
        self._message = self._last = None
        self._pieces = self._texts.setdefault(None, [])
        self.deeds += status == "completed"

    @property
    def answer(self) -> str:
        """Of the last message, where chunks tell theirs."""
        return "".join(self._texts.get(self._last, ()))


def judge(
    event: Event, text: TurnText, traits: Traits, *, cancelled: bool, before: int
) -> TurnResult:
    """How the turn went that *event*, the answer to a prompt, ends.

    *before*: what `tokens_of` gave at the end of the turn before.
    """
    ended = as_dict(event.get("result"))
    stop = ended.get("stopReason")
    evidence = "an error answer" if "error" in event else f"stopReason {str(stop)[:60]}"
    if cancelled:
        verdict = Verdict("cancelled", "interrupted", f"{evidence}, behind our cancel")
    elif "error" in event:
        verdict = Verdict("failed", _failure(event["error"]), evidence)
    elif stop == "cancelled":
        verdict = Verdict("cancelled", "cancelled by the agent itself", evidence)
    elif stop == "refusal":
        verdict = Verdict("refused", text.answer or "the model refused", evidence)
    elif stop == "end_turn":
        verdict = _judge_end(ended, text, traits, before, evidence)
    else:
        verdict = Verdict("cut", f"it ended by {str(stop)[:60]}", evidence)
    return TurnResult(
        outcome=verdict.outcome,
        text=text.answer if verdict.outcome == "completed" else "",
        failure=verdict.failure,
        usage=_usage(ended),
        evidence=verdict.evidence,
        raw=event,
    )


def _failure(error: object) -> str:
    code, words = as_dict(error).get("code"), failure_of(error)
    needs_login = type(code) is int and code in _NEEDS_LOGIN
    return f"it is not logged in: {words}" if needs_login else words


def _judge_end(
    ended: Mapping[str, Any], text: TurnText, traits: Traits, before: int, evidence: str
) -> Verdict:
    """It says that it came to its end: what speaks against that."""
    answer = text.answer
    if not _proven(ended, traits, before):
        words = text.notices or answer or "no model answered"
        return Verdict("failed", words, f"{evidence}, and no usage")
    if traits.failing is not None and traits.failing.match(answer):
        return Verdict("failed", answer, f"{evidence}, with an error for an answer")
    if not answer.strip() and not text.deeds:
        why = "it ended without a word, behind a denial" if text.denied else text.notices
        return Verdict("empty", why or "it ended without a word", evidence)
    return Verdict("completed", None, f"{evidence}, usage" if traits.proof else f"{evidence} only")


def _proven(ended: Mapping[str, Any], traits: Traits, before: int) -> bool:
    match traits.proof:
        case "present":
            return isinstance(ended.get("usage"), dict)
        case "grown":
            return tokens_of(ended) > before
        case "positive":
            return tokens_of(ended) > 0
    return True


def tokens_of(ended: Mapping[str, Any]) -> int:
    """All the tokens that the end of a turn tells of."""
    usage = as_dict(ended.get("usage"))
    total = _count(usage, "totalTokens")
    return total or sum(filter(None, (_count(usage, name) for name in _COUNTS)))


_COUNTS = ("inputTokens", "outputTokens", "cachedReadTokens", "cachedWriteTokens")


def _usage(ended: Mapping[str, Any]) -> TokenUsage | None:
    match ended:
        case {"usage": dict() as usage}:
            return TokenUsage(*(_count(usage, name) for name in _COUNTS))
        case {"_meta": {"quota": {"token_count": dict() as usage}}}:
            return TokenUsage(_count(usage, "input_tokens"), _count(usage, "output_tokens"))
    return None


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    found = usage.get(name)
    return found if type(found) is int and found >= 0 else None


_WHOLE = 1 << 18  # characters of a message that are kept until its end


class AcpPassages:
    """What was said and done, from the updates of a session: chunks become messages."""

    keys: ClassVar = frozenset({"jsonrpc"})
    has_prompts: ClassVar = False

    def __init__(self) -> None:
        self._who, self._chunks, self._size = "", list[str](), 0
        self._calls = dict[str, dict[str, Any]]()  # tools that have not ended yet

    @property
    def has_part(self) -> bool:
        return bool(self._chunks or self._calls)

    def feed(self, event: Event) -> Iterator[Passage]:
        match event:
            case {"method": "session/update", "params": {"update": dict(update)}}:
                yield from self._update(update)
            case {"result": {"stopReason": str(how)}}:
                yield from self.close()
                yield Passage("turn", how)
            case {"id": str(), "error": error}:
                yield from self.close()
                yield Passage("turn", f"failed: {failure_of(error)}")

    def close(self) -> Iterator[Passage]:
        for call in list(self._calls):
            yield from self._use(call)
        yield from self._say("", "")

    def _update(self, update: Mapping[str, Any]) -> Iterator[Passage]:
        match update:
            case {
                "sessionUpdate": "agent_message_chunk" | "user_message_chunk" as kind,
                "content": {"text": str(text)},
            }:
                yield from self._say("agent" if kind.startswith("agent") else "person", text)
            case {"sessionUpdate": "tool_call" | "tool_call_update", "toolCallId": str(call)}:
                yield from self._say("", "")
                known = self._calls.setdefault(call, {})
                known.update({name: update[name] for name in _TOLD if update.get(name)})
                if known.get("status") in ("completed", "failed") or len(self._calls) > _OPEN:
                    yield from self._use(call)

    def _say(self, who: str, text: str) -> Iterator[Passage]:
        if self._chunks and (who != self._who or self._size > _WHOLE):
            yield Passage(self._who, "".join(self._chunks))
            self._chunks, self._size = [], 0
        if text:
            self._who, self._size = who, self._size + len(text)
            self._chunks.append(text)

    def _use(self, call: str) -> Iterator[Passage]:
        known = self._calls.pop(call)
        given, title = known.get("rawInput"), str(known.get("title") or known.get("kind") or "tool")
        about = gist(given) if isinstance(given, dict) else ""
        yield Passage("tool", title if about in title else f"{title}: {about}")
        texts = [text for block in as_list(known.get("content")) if (text := text_of(block))]
        if known.get("status") == "failed" and not texts:
            texts = ["failed"]
        if texts:
            yield Passage("result", "\n".join(texts))


_TOLD = ("title", "kind", "rawInput", "content", "status")
_OPEN = 1000  # tools that may be under way at once
