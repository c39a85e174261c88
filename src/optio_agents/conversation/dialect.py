"""What one kind of agent must give to stand behind a `Conversation`: read this first to add one.

A *dialect* is the language of one agent, pure: it decodes what the agent writes, encodes what we
say, and turns each event into *facts*. It awaits nothing, reads no clock and owns no process; one
instance lives as long as one process of the agent, and is fed all of its output from the first
line on, also by a successor that finds nothing but the journal. So everything that it must know
(session id, modes, what is open) is derived from that output, never from what it once did itself.

Above it `machinery.AgentConversation` does the rest, for every agent alike: it reads, delivers,
keeps who waits for which answer, has permissions decided, interrupts and closes within bounds.

The facts, in the order of a turn:

- `Ready`: messages can be said now. Before it the machinery holds them back (`Dialect.ready`).
- `MessageRead`: the agent has this message of ours. Where a wire never says so, the first sign
  of the turn that answers it will do; until then it counts as unconfirmed.
- `PermissionAsked`, `PermissionSettled`: it waits for a decision; none is wanted any more. The
  end of a turn settles what it asked. A request repeated by a resume is reported once.
- `CallAsked`: it uses a tool of ours, or asks a hook of ours, and waits for what that gives;
  settled as a permission is.
- `ReplyOwed`: a line that has one right reply which needs nobody (refuse an unknown request; the
  next step of a handshake). It is said exactly once, however many supervisors read that line.
- `LimitChanged`: the model's API turns the agent away for now, or does so no more.
- `TurnOver`: a turn has ended. `completed` needs positive evidence, and `TurnResult.evidence`
  names it: the agent's own word that it is done, no mark of an error, a limit, a refusal or an
  abort beside it, and something to show: text, or a tool used. Whatever stop reason it does not
  know is not completed. The machinery itself reports what the process took with it as lost.
- `AllowanceUsed`: how much of its account's allowance is used up, as far as it says.
- `ListChanged`: it has changed its own list of what it has to do.
- `ControlAnswered`: it answers a request of ours that somebody waits for.
- `Unusable`: nothing can ever be said to it (no login, no mode in which it asks). The machinery
  closes the conversation with the reason.

What the agent writes may be any JSON, so `read` raises for nothing; `tests/conversation` has the
suite that tries. Answers are kept by the place of the question in the output, since ids of agents
begin again at 0 in every process: put it (`OutputLines.places`) into the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from optio_agents.checklist import TodoUpdate

from .contract import (
    Attachment,
    ContextUsage,
    Event,
    PermissionRequest,
    ToolCall,
    TurnOutcome,
    TurnResult,
    UsageWindow,
)
from .wire import OutputLines


@dataclass(frozen=True, slots=True)
class Ready:
    """Messages can be said."""


@dataclass(frozen=True, slots=True)
class MessageRead:
    """The agent has this message of ours."""

    uuid: str


@dataclass(frozen=True, slots=True)
class PermissionAsked:
    """A permission request that is to be decided."""

    request: PermissionRequest


@dataclass(frozen=True, slots=True)
class PermissionSettled:
    """A request or a call that needs no answer of ours any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class CallAsked:
    """A tool or a hook of ours is called; *reply* makes the one answer of what it gave or raised.

    Whatever that is, it is an answer.
    """

    call: ToolCall
    reply: Callable[[object], bytes]


@dataclass(frozen=True, slots=True)
class ReplyOwed:
    """A line of the agent's whose reply is known: `data` must be said, or it waits."""

    request_id: str
    place: int  # of that line
    data: bytes


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls of the model wait: until then (s since the epoch, None where nobody said), and why."""

    until: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class LimitChanged:
    """The model's API turns the agent away; None: it does so no more."""

    limit: Limit | None


class Verdict(NamedTuple):
    """How a turn ended, why there is no answer, and what both rest on."""

    outcome: TurnOutcome
    failure: str | None
    evidence: str


@dataclass(frozen=True, slots=True)
class TurnOver:
    """A turn has ended, or messages will never have one."""

    turn: TurnResult
    answered: tuple[str, ...] = ()  # uuids of our messages; none for a turn nobody asked for


@dataclass(frozen=True, slots=True)
class AllowanceUsed:
    """How much of what its account may use is used up."""

    windows: Sequence[UsageWindow]


@dataclass(frozen=True, slots=True)
class ListChanged:
    """Its own list of what it has to do is another than before."""

    update: TodoUpdate


@dataclass(frozen=True, slots=True)
class ControlAnswered:
    """The answer to a request of ours: what it gave, or why it was refused."""

    request_id: str
    value: Mapping[str, Any]
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """The agent lives, and cannot be talked to."""

    why: str


Fact: TypeAlias = (
    Ready
    | MessageRead
    | PermissionAsked
    | PermissionSettled
    | CallAsked
    | ReplyOwed
    | LimitChanged
    | TurnOver
    | AllowanceUsed
    | ListChanged
    | ControlAnswered
    | Unusable
)


def text_of(control_id: str, value: str | bool) -> str:
    """The word that *control_id* is set to. Raises ValueError for none."""
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{control_id} is set to a word, and not to {value!r}")


class Reading(NamedTuple):
    """What some lines say: the agent's own events unchanged, in order, and the facts in them."""

    events: list[Event]
    facts: list[Fact]


class Dialect(Protocol):
    """The language of one agent, for the life of one process of it."""

    @property
    def line_limit(self) -> int:
        """Bytes of a line that are kept; what is longer is an event that says so."""

    @property
    def carries_reasons(self) -> bool:
        """A denial tells the agent why; else the reason is said as the next message."""

    @property
    def ready(self) -> bool:
        """A message can be said. True from the start where there is no handshake.

        False while a turn runs, where another message would harm it.
        """

    @property
    def running(self) -> bool:
        """A turn runs."""

    @property
    def busy(self) -> bool:
        """The agent works, also outside of a turn (in the background), as far as it says."""

    @property
    def session_id(self) -> str | None:
        """The agent's own, by which it can go on later."""

    @property
    def controls(self) -> Sequence[str]:
        """What may be set of it while it runs, by its own words: its model, its mode."""

    @property
    def context(self) -> ContextUsage | None:
        """How full its context is, as far as it says so unasked."""

    def piece(self, event: Event) -> str:
        """What *event* adds to what the agent is saying; "" for most."""

    def read(self, output: OutputLines, now: float) -> Reading:
        """Decode the next lines. *now*: seconds since the epoch at which they were read."""

    def message(
        self, uuid: str, text: str, *, command: bool, attachments: Sequence[Attachment] = ()
    ) -> bytes:
        """Encode what the user says, as plain text; *command* lets the agent carry out `/…`.

        Raises ValueError for an attachment that this agent cannot be shown.
        """

    def steering(self, request_id: str, text: str) -> bytes:
        """Say *text* into the turn that runs, where `ready` is false meanwhile.

        Raises ValueError where this agent hears nothing then.
        """

    def setting(self, request_id: str, control_id: str, value: str | bool) -> bytes:
        """Set one of `controls`. Empty where that goes along with the next message.

        Raises ValueError for a value that it cannot be told.
        """

    def sent(self, uuid: str) -> None:
        """This message is about to be in its input: turns may answer it from now on."""

    def forget(self, uuid: str) -> None:
        """It was not sent after all."""

    def permission_answer(self, request: PermissionRequest, decision: object) -> bytes:
        """The one valid answer, whatever a handler gave; what is no decision denies and says why.

        Raises ValueError for a decision that this wire cannot carry (a changed input, a grant):
        never is something else allowed than what was decided. A denial can always be said.
        """

    def withdrawal(self, request: PermissionRequest) -> bytes | None:
        """What an open request is answered before its turn is interrupted, if it needs that."""

    def interruption(self, request_id: str) -> bytes:
        """End the turn that runs; *request_id* names it where the agent can refuse it.

        The turn that ends next was cancelled then, whatever stop reason the agent gives.
        """

    def farewell(self) -> bytes | None:
        """What asks it to end, if more than the end of its input does."""


class Passage(NamedTuple):
    """One thing that was said or done, and by whom: person, agent, tool, result, turn, output."""

    who: str
    text: str
    change: str = ""  # to a file, that a tool is to make: lines that begin with - and +


class PassageReader(Protocol):
    """Reads what an agent has written once more, for a person, and keeps little of it.

    An object with none of *keys* is no event of the agent's.
    """

    keys: ClassVar[frozenset[str]]
    has_prompts: ClassVar[bool]  # the agent repeats what it was told

    @property
    def has_part(self) -> bool:
        """It has read part of a passage: who goes on later begins in front of that."""

    def feed(self, event: Event) -> Iterator[Passage]:
        """What this event tells, or completes."""

    def close(self) -> Iterator[Passage]:
        """What has no end yet."""
