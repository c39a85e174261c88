"""Which message was read, and which turn answered it: the ledger of one CLI process. Pure.

The CLI merges waiting messages into one turn, folds others into the turn that runs, and starts
turns that nobody asked for. So results are never counted: they are matched by the uuids that the
CLI names (2.1.329) or echoes while the turn runs (`--replay-user-messages`, also 2.1.197).
"""

from __future__ import annotations

from dataclasses import dataclass

from optio_agents.conversation.contract import Event, Unconfirmed


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Messages that the CLI is done with. No result: it dropped them unanswered."""

    result: Event | None
    answered: tuple[str, ...] = ()  # uuids of ours; none for a turn that nobody asked for


@dataclass(slots=True)
class _Sent:
    text: str | None  # kept until the message is confirmed
    confirmed: bool = False
    in_turn: bool = False
    sure: bool = True  # that it is in the CLI's input


class TurnLedger:
    """Feed it what is sent and every event; it tells which turn ended what."""

    __slots__ = ("_named", "_sent", "busy", "last_result", "results", "running", "session_id")

    def __init__(self, *, named: bool = False) -> None:
        self._sent = dict[str, _Sent]()  # not answered yet, in order
        self._named = named  # the CLI names our messages, so there is no need to guess
        self.running = False  # a turn runs
        self.busy = False  # the CLI says so itself: also work in the background
        self.results = 0
        self.last_result: Event | None = None
        self.session_id: str | None = None

    @property
    def pending(self) -> bool:
        return self.running or any(sent.sure for sent in self._sent.values())

    @property
    def unconfirmed(self) -> tuple[Unconfirmed, ...]:
        """Sent and never heard of, in order."""
        return tuple(
            Unconfirmed(uuid, sent.text or "")
            for uuid, sent in self._sent.items()
            if not sent.confirmed
        )

    def send(self, uuid: str, text: str) -> None:
        self._sent[uuid] = _Sent(text)

    def doubt(self, uuid: str) -> None:
        """Nobody knows whether it was sent: it is awaited once the CLI is heard to know it."""
        if (sent := self._sent.get(uuid)) is not None:
            sent.sure = sent.confirmed

    def forget(self, uuid: str) -> None:
        """It was not sent after all."""
        self._sent.pop(uuid, None)

    def feed(self, event: Event) -> TurnEnd | None:
        """Take one event of the CLI's, of the types in `TYPES`."""
        match event.get("type"):
            case "result":
                return self._result(event)
            case "command_lifecycle":
                return self._lifecycle(str(event.get("command_uuid")), event.get("state"))
            case "user":
                if event.get("isReplay"):
                    self._read(event.get("uuid"))
            case "system":
                return self._system(event)
        return None

    TYPES = frozenset({"result", "command_lifecycle", "user", "system"})

    def _system(self, event: Event) -> TurnEnd | None:
        match event.get("subtype"), event.get("state"):
            case "init", _:
                self.running = True
                self.session_id = event.get("session_id") or self.session_id
                for uuid in _uuids(event):
                    self._read(uuid)
            case "session_state_changed", "idle":
                self.running = self.busy = False
                return self._dropped()
            case "session_state_changed", "running" | "requires_action":
                self.busy = True
        return None

    def _lifecycle(self, uuid: str, state: object) -> TurnEnd | None:
        if (sent := self._sent.get(uuid)) is None:
            return None
        self._confirm(sent)
        match state:
            case "started":
                self.running = sent.in_turn = True
            case "cancelled":  # while it waited: a turn that is cut short has its result first
                del self._sent[uuid]
                return TurnEnd(None, (uuid,))
        return None

    def _read(self, uuid: object) -> None:
        if isinstance(uuid, str) and (sent := self._sent.get(uuid)) is not None:
            self._confirm(sent)
            sent.in_turn = True

    def _confirm(self, sent: _Sent) -> None:
        self._named = sent.confirmed = sent.sure = True
        sent.text = None

    def _result(self, event: Event) -> TurnEnd:
        self.running = False
        self.results += 1
        self.last_result = event
        named = set(_uuids(event))
        if not named and not self._named:
            named = set(self._sent)  # a CLI that names nothing: all that was said so far
        answered = tuple(u for u, sent in self._sent.items() if sent.in_turn or u in named)
        for uuid in answered:
            del self._sent[uuid]
        return TurnEnd(event, answered)

    def _dropped(self) -> TurnEnd | None:
        """Idle means that nothing waits: what was read by now will never be answered."""
        dropped = tuple(uuid for uuid, sent in self._sent.items() if sent.in_turn)
        for uuid in dropped:
            del self._sent[uuid]
        return TurnEnd(None, dropped) if dropped else None


def _uuids(event: Event) -> list[str]:
    named = event.get("user_message_uuids")
    if not isinstance(named, list):
        named = [event.get("user_message_uuid")]
    return [uuid for uuid in named if isinstance(uuid, str)]
