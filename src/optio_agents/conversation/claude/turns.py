"""Which message was read, and which turn answered it and how: of one CLI process. Pure.

The CLI merges waiting messages into one turn, folds others into the turn that runs, and starts
turns that nobody asked for. So results are never counted: they are matched by the uuids that the
CLI names (2.1.329) or echoes while the turn runs (`--replay-user-messages`, also 2.1.197).

A result says "success" also when the model's API is down (then `is_error` is set), when a message
of priority cut the turn short (`terminal_reason` tells), when a hook blocked the prompt, and for
what the CLI carries out itself (both without a single call of the model, `num_turns` 0).
"""

from __future__ import annotations

from dataclasses import dataclass

from optio_agents.conversation.contract import Event, TurnOutcome
from optio_agents.conversation.dialect import MessageRead, Verdict
from optio_agents.conversation.json_lines import as_list


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Messages that the CLI is done with. No result: it dropped them, as `why` says."""

    result: Event | None
    answered: tuple[str, ...] = ()  # uuids of ours; none for a turn that nobody asked for
    why: str = ""
    outcome: TurnOutcome = "lost"  # where there is no result


class TurnLedger:
    """Feed it what is sent and every event; it tells what was read and which turn ended what."""

    __slots__ = ("_named", "_sent", "busy", "running", "session_id")

    def __init__(self, *, named: bool = False) -> None:
        self._sent = dict[str, bool]()  # not answered yet, in order; True: a turn has read it
        self._named = named  # the CLI names our messages, so there is no need to guess
        self.running = False  # a turn runs
        self.busy = False  # the CLI says so itself: also work in the background
        self.session_id: str | None = None

    def send(self, uuid: str) -> None:
        self._sent[uuid] = False

    def forget(self, uuid: str) -> None:
        """It was not sent after all."""
        self._sent.pop(uuid, None)

    def feed(self, event: Event) -> list[MessageRead | TurnEnd]:
        """Take one event of the CLI's, of the types in `TYPES`."""
        match event.get("type"):
            case "result":
                return [self._result(event)]
            case "command_lifecycle":
                return self._lifecycle(event.get("command_uuid"), event.get("state"))
            case "user":
                return self._read(event.get("uuid")) if event.get("isReplay") is True else []
            case "system":
                return self._system(event)
        return []

    TYPES = frozenset({"result", "command_lifecycle", "user", "system"})

    def _system(self, event: Event) -> list[MessageRead | TurnEnd]:
        match event.get("subtype"), event.get("state"):
            case "init", _:
                self.running = True
                if isinstance(session := event.get("session_id"), str) and session:
                    self.session_id = session
                return [read for uuid in _uuids(event) for read in self._read(uuid)]
            case "session_state_changed", "idle":
                self.running = self.busy = False
                return self._dropped()
            case "session_state_changed", "running" | "requires_action":
                self.busy = True
        return []

    def _lifecycle(self, uuid: object, state: object) -> list[MessageRead | TurnEnd]:
        if not isinstance(uuid, str) or uuid not in self._sent:
            return []
        self._named = True
        match state:
            case "started":
                self.running = self._sent[uuid] = True
            case "cancelled":  # while it waited: a turn that is cut short has its result first
                del self._sent[uuid]
                return [TurnEnd(None, (uuid,), "taken out of the queue", "cancelled")]
        return [MessageRead(uuid)]

    def _read(self, uuid: object) -> list[MessageRead | TurnEnd]:
        if not isinstance(uuid, str) or uuid not in self._sent:
            return []
        self._named = self._sent[uuid] = True
        return [MessageRead(uuid)]

    def _result(self, event: Event) -> TurnEnd:
        self.running = False
        named = set(_uuids(event))
        if not named and not self._named:
            named = set(self._sent)  # a CLI that names nothing: all that was said so far
        answered = tuple(u for u, in_turn in self._sent.items() if in_turn or u in named)
        for uuid in answered:
            del self._sent[uuid]
        return TurnEnd(event, answered)

    def _dropped(self) -> list[MessageRead | TurnEnd]:
        """Idle means that nothing waits: what was read by now will never be answered."""
        dropped = tuple(uuid for uuid, in_turn in self._sent.items() if in_turn)
        for uuid in dropped:
            del self._sent[uuid]
        return [TurnEnd(None, dropped, "idle without a result")] if dropped else []


def _uuids(event: Event) -> list[str]:
    named = event.get("user_message_uuids")
    if not isinstance(named, list):
        named = [event.get("user_message_uuid")]
    return [uuid for uuid in named if isinstance(uuid, str)]


# stop reasons of a turn that came to its end
_ENDS = {None, "end_turn", "stop_sequence", "tool_use"}
_LIMITS = {"error_max_turns", "error_max_budget_usd", "error_max_structured_output_retries"}


def judge(result: Event, *, command: bool = False) -> Verdict:
    """How the turn that *result* ends went; *command*: it was to carry out one of the CLI's own."""
    subtype, stopped = result.get("subtype"), result.get("stop_reason")
    terminal, calls = result.get("terminal_reason"), result.get("num_turns")
    shown = {name: result[name] for name in _EVIDENCE if result.get(name) is not None}
    evidence = ", ".join(f"{name} {str(value)[:60]}" for name, value in shown.items())
    words = _words(result)
    if isinstance(terminal, str) and terminal.startswith("aborted"):
        return Verdict("cancelled", "interrupted", evidence)
    if isinstance(subtype, str) and subtype in _LIMITS:
        return Verdict("cut", words or subtype, evidence)
    if subtype != "success" or result.get("is_error"):
        fallback = subtype if isinstance(subtype, str) and subtype != "success" else "failed"
        return Verdict("failed", words or fallback, evidence)
    if stopped == "refusal":
        return Verdict("refused", words or "the model refused", evidence)
    if terminal not in (None, "completed"):
        return Verdict("cut", f"it ended by {str(terminal)[:60]}", evidence)
    if not (stopped is None or (isinstance(stopped, str) and stopped in _ENDS)):
        return Verdict("cut", f"it ended by {str(stopped)[:60]}", evidence)
    if calls == 0 and not command:
        return Verdict("cut", words or "the model was never asked", evidence)
    tools_used = type(calls) is int and calls > 1
    if words or result.get("structured_output") is not None or tools_used:
        return Verdict("completed", None, evidence)
    return Verdict("empty", "it ended without a word", evidence)


_EVIDENCE = ("subtype", "is_error", "terminal_reason", "stop_reason", "num_turns")


def _words(result: Event) -> str:
    """What it says to a reader: the answer, or what went wrong."""
    text = result.get("result")
    if isinstance(text, str) and text.strip():
        return text
    return "; ".join(error for error in as_list(result.get("errors")) if isinstance(error, str))
