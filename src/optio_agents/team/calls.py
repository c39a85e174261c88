"""Calling, speaking and asking in a team: one dispatcher for all who may.

A caller outside has no context; a participant has one, and what it asks for is counted in it. What
a chain of calls inherits (limits, deadline, who may be seen, instructions for all) goes along in
the options of each turn.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .context import LINGER, TurnContext
from .errors import CallFailed, LimitReached, NoParticipant
from .limits import Every, Limits
from .messages import Attachment, Message, plain
from .observing.events import Sent
from .stores import OVER, Row
from .turn import AGAIN, ALL, APPROVER, CallOptions, Status, Suspend, Turn

if TYPE_CHECKING:
    from typing import Unpack

    from .kernel import Kernel

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_LONGEST = 200  # characters of an id that is given; those of turns far below are longer
_INHERITED = ("limits", "deadline", "only", "everyone")


class Calls:
    """What participants, and the caller outside, can do."""

    def __init__(
        self,
        kernel: Kernel,
        limits: Limits,
        approve_within: float,
        *,
        tools: Sequence[Any],
        without: Collection[str],
        instructions: str,
    ) -> None:
        self._kernel, self._limits, self._approve_within = kernel, limits, approve_within
        self._bounds = limits.dump()
        self.tools, self.without, self.instructions = tools, without, instructions

    def call(
        self,
        to: str | Sequence[str],
        text: str | Message | Any,
        caller: TurnContext | None,
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
        number: str = "",
        when: Every | None = None,
        only: Sequence[str] | None = None,
        own: bool = False,
        **options: Unpack[CallOptions],
    ) -> Turn:
        """Give work to *to*, at once; to the approver, who is the team's *own*, only for it."""
        parent = None if caller is None else caller.turn
        if id is not None and (not _ID.fullmatch(id) or len(id) > _LONGEST):
            raise ValueError(f"{id!r} cannot be the id of a turn: letters, digits, dots and dashes")
        if id is None and parent is not None:
            name = number if key is None else f"k{sha256(key.encode()).hexdigest()[:12]}"
            id = f"{parent.row.id}.{name}"  # noqa: A001
        names = [to] if isinstance(to, str) else list(to)
        extra: dict[str, Any] = {}
        if when is not None:
            extra["again"] = [to if isinstance(to, str) else names, when.seconds, when.times]
            to = AGAIN
        elif not isinstance(to, str):
            extra["names"] = names
            to = ALL
        if not names:
            raise ValueError("nobody is called: give at least one name")
        kept = self._options(to, parent, only, options)
        kept.update(extra)
        for name in names if to != APPROVER or not own else ():
            self.check(name, kept.get("only"), caller)
        self._check_limits(to, kept, id, caller)
        files = options.get("attachments", ())
        late = _is_late(text)
        if late:
            kept["late"] = True
        message = self._message(to, "" if late else text, parent, files)
        turn = self._kernel.make(
            to, message, id=id, parent=parent, options=kept, returns=options.get("returns")
        )
        if late:
            turn.late = lambda: self._message(to, _computed(text), parent, files)
        turn.endless = when is not None and when.times is None
        if not options.get("lazy"):
            self._kernel.start(turn)
        return turn

    def _options(
        self,
        to: str,
        parent: Turn | None,
        only: Sequence[str] | None,
        given: CallOptions,
    ) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        if parent is not None:
            above = parent.row.options
            for name in _INHERITED:
                if name in above:
                    kept[name] = above[name]
            kept["depth"] = above.get("depth", 1) + (not to.startswith("["))
            if self._kernel.shared:
                kept["chain"] = [*above.get("chain", ()), parent.name]
        elif self._bounds:
            kept["limits"] = self._bounds
            if self._limits.seconds is not None:
                kept["deadline"] = time.time() + self._limits.seconds
        if only is not None:
            kept["only"] = list(only)
        if given:
            kept.update(_given(given))
        return kept

    def check(self, name: str, only: Sequence[str] | None, caller: TurnContext | None) -> None:
        """Raise NoParticipant, with who there is, unless *name* can be called here."""
        known = name in self._kernel.participants and not name.startswith("[")
        if known and (only is None or name in only):
            return
        there = ", ".join(self.visible(only)) or "nobody"
        who = "" if caller is None else f" ({caller.name}, turn {caller.id})"
        raise NoParticipant(
            f"no participant {name!r} can be called here{who}: there is {there}",
            turn="" if caller is None else caller.id,
        )

    def visible(self, only: Sequence[str] | None) -> list[str]:
        hidden = {tool.name for tool in self.tools}
        return [
            name
            for name in self._kernel.participants
            if not name.startswith("[")
            and (name in only if only is not None else name not in hidden)
        ]

    def others(self, context: TurnContext) -> list[str]:
        """A line on each whom the participant of a turn may call."""
        known, names = self._kernel.participants, self.visible(context.options.get("only"))
        return [f"- {name}: {known[name].role}" for name in names if name != context.name]

    def _check_limits(
        self, to: str, options: dict[str, Any], turn: str | None, caller: TurnContext | None
    ) -> None:
        if caller is None or to == APPROVER:
            return
        parent, bounds = caller.turn, options.get("limits")
        if to in self._kernel.shared and to in (chain := options["chain"]):
            raise LimitReached(
                f"{parent.name} (turn {parent.id}) cannot call {to}, which waits for it: "
                f"{' > '.join([*chain, to])}",
                limit="cycle",
                turn=parent.id,
            )
        if not bounds:
            return
        children = len(caller.born) + (turn not in caller.born)
        for limit, count in ("depth", options["depth"]), ("children", children):
            if limit in bounds and count > bounds[limit]:
                raise LimitReached(
                    f"{parent.name} (turn {parent.id}) cannot call {to}: "
                    f"the limit {limit} is {bounds[limit]}",
                    limit=limit,
                    turn=parent.id,
                )
        caller.born.add(turn or "")

    def _message(
        self, to: str, text: Any, parent: Turn | None, attachments: Sequence[Attachment]
    ) -> Message:
        for one in attachments:
            if not isinstance(one, Attachment):
                raise TypeError(f"{one!r} is no Attachment")
        sender = "user" if parent is None else parent.name
        if sender.startswith("[") and parent is not None:
            sender = parent.message.sender
        if isinstance(text, str):
            return Message(text, "forward", sender, to, None, tuple(attachments))
        if not isinstance(text, Message):
            text = Message("", value=plain(text))
        files = (*text.attachments, *attachments)
        message: Message = text.but(kind="forward", sender=sender, to=to, attachments=files)
        return message

    # Words between turns that run

    async def tell(self, context: TurnContext, text: str | Message, *, key: str) -> None:
        """Once for each *key*: to the caller's turn, or to whoever called from outside."""
        key = f"tell:{key}"
        if key in context.claim.records:
            return
        turn, kernel = context.turn, self._kernel
        sender = turn.message.sender
        message = text if isinstance(text, Message) else Message(text)
        message = message.but(kind="forward", sender=turn.name, to=sender, turn=turn.id)
        to, item = turn.row.parent, {"message": message.dump(), "from": turn.id}
        if to is None:
            to, item = turn.id, {"told": message.dump()}
        await kernel.store.post(to, item, key=f"{turn.id}:{key}")
        await context.record(key, True)
        turn.emit(Sent, "caller", message.text)
        if turn.row.parent is None and kernel.hooks:
            answer = await kernel.hooks.run("told", turn, message)
            if answer is not None:
                said = answer if isinstance(answer, Message) else Message(str(answer))
                await self.post(turn.id, said.but(sender=sender, to=turn.name), key=f"re:{key}")

    async def send(
        self, turn: str, message: Message, *, key: str | None, context: TurnContext | None = None
    ) -> int:
        """Into the mailbox of a turn that is not over. Raises NoParticipant and CallFailed."""
        row = await self._row(turn)
        if row.state in OVER:
            raise CallFailed(
                f"turn {turn} of {row.name} is over ({row.state}): nobody reads what is sent to it",
                turn=turn,
                name=row.name,
                status=row.state,
                kind="over",
            )
        sender = message.sender or ("user" if context is None else context.name)
        number = await self.post(turn, message.but(sender=sender, to=row.name), key=key)
        if context is not None:
            context.turn.emit(Sent, turn, message.text)
        return number

    async def post(self, turn: str, message: Message, *, key: str | None) -> int:
        item = {"message": message.but(turn=turn).dump()}
        return await self._kernel.store.post(turn, item, key=key or secrets.token_hex(8))

    async def ask_approver(self, context: TurnContext, question: str, *, key: str) -> Message:
        """The answer of the approver; no, when there is none in time."""
        if APPROVER not in self._kernel.participants:
            return Message("no", "return", "team", context.name, False)
        turn = self.call(
            APPROVER,
            question,
            context,
            key=key,
            timeout=self._approve_within,
            metadata=key,
            own=True,
        )
        try:
            answer: Message = await turn
        except CallFailed as error:
            return Message(f"no: {error}", "return", "team", context.name, False)
        return answer

    # What is known about turns

    async def _row(self, turn: str) -> Row:
        known = self._kernel.turns.get(turn)
        while known is not None and known.started and not known.written and not known.over:
            await known.pieces.more()
        rows = await self._kernel.store.look(id=turn) if _ID.fullmatch(turn) else []
        if not rows:
            raise NoParticipant(f"this team has no turn {turn[:80]!r}", turn=turn[:80])
        return rows[0]

    async def status(self, turn: str) -> Status:
        """How far that turn is, also of an earlier process. Raises NoParticipant."""
        return self.status_of(await self._row(turn))

    def status_of(self, row: Row) -> Status:
        handle = self._kernel.turns.get(row.id)
        return Status.of(row, () if handle is None else handle.messages())

    async def exchange(self, root: str) -> tuple[Message, ...]:
        """All that was said in the tree of a turn, in order of time."""
        found: list[tuple[float, int, Message]] = []
        family: set[str] = set()
        for row in await self._kernel.store.look(root=(await self._row(root)).root):
            if row.id != root and row.parent not in family:
                continue
            family.add(row.id)
            said = Message.load(row.message, strict=False).but(turn=row.id)
            found.append((row.created, len(found), said))
            for item in await self._kernel.store.mailbox(row.id):
                kept = item.get("message") or item.get("told")
                if kept:
                    found.append((item["at"], len(found), Message.load(kept, strict=False)))
            for kept in (row.result or {}).get("messages", ()):
                said = Message.load(kept, strict=False)
                found.append((row.ended or 0.0, len(found), said))
        return tuple(message for *_, message in sorted(found, key=lambda entry: entry[:2]))


def _is_late(text: Any) -> bool:
    """Whether it is to be computed when the turn begins."""
    if isinstance(text, str | Message):
        return False
    return callable(text) or (isinstance(text, Mapping) and any(map(callable, text.values())))


def _computed(text: Any) -> Any:
    if callable(text):
        return text()
    return {name: one() if callable(one) else one for name, one in text.items()}


def _given(options: CallOptions) -> dict[str, Any]:
    """What goes along with a call, as JSON."""
    kept: dict[str, Any] = {}
    if history := options.get("history"):
        kept["history"] = [_said(message).dump() for message in history]
    if instructions := options.get("instructions"):
        kept["everyone" if options.get("scope") == "all" else "instructions"] = instructions
    if (timeout := options.get("timeout")) is not None:
        if not timeout >= 0:
            raise ValueError(f"the timeout is {timeout}")
        kept["timeout"] = timeout
    if settings := options.get("settings"):
        kept["settings"] = dict(settings)
    if (metadata := options.get("metadata")) is not None:
        kept["metadata"] = plain(metadata)
    if options.get("open"):
        kept["open"] = True
    if (returns := options.get("returns")) is not None:
        from pydantic import TypeAdapter

        is_schema = isinstance(returns, Mapping)
        kept["returns"] = plain(returns) if is_schema else TypeAdapter(returns).json_schema()
    return kept


def _said(one: Message | Mapping[str, Any]) -> Message:
    """A message of a history, also as the dictionary that model APIs have."""
    match one:
        case Message():
            return one
        case {"role": "user", "content": str(text)}:
            return Message(text, "forward", "user", "assistant")
        case {"role": "assistant", "content": str(text)}:
            return Message(text, "return", "assistant", "user")
    raise ValueError(f"{one!r} is no message: give a Message, or a role and its content")


# Participants of the team's own


async def everyone(context: TurnContext) -> AsyncIterator[Any]:
    """Call all of some names with one message; each answer bears the name of who gave it."""
    names = context.options["names"]
    turns = [context.call(name, context.message, key=f"{n}:{name}") for n, name in enumerate(names)]
    for name, turn in zip(names, turns, strict=True):
        answer = await turn
        yield answer if len(names) == 1 else answer.but(text=tagged(name, answer.text))


def tagged(name: str, text: str) -> str:
    return f"[{name}]{text}[/{name}]"


async def again(context: TurnContext) -> None:
    """Call somebody at once and then at even distances; what was missed is not made up for."""
    to, seconds, times = context.options["again"]
    began = context.turn.row.created
    number = 0
    if context.claim.epoch > 1:  # it has slept, or somebody died with it
        number = int((time.time() - began) / seconds + 0.001)
    while times is None or number < times:
        left = began + number * seconds - time.time()
        if left > LINGER:
            raise Suspend(None, began + number * seconds)
        if left > 0:
            await asyncio.sleep(left)
        turn = context.call(to, context.message, key=f"again:{number}")
        number += 1
        if times is not None and number >= times:
            await turn.wait_over()
