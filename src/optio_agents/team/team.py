"""The team: who is in it, and how work is given to it from outside."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .calls import Calls, again, everyone
from .errors import NoParticipant
from .kernel import Kernel
from .limits import CAREFUL, Every, Limits
from .messages import Message
from .observing.hooks import Hooks
from .participants import Function, Participant
from .participants.human import Approver, Human
from .participants.model import PeerTool
from .participants.tools import Tool, tool
from .stores import Row, TurnStore
from .stores.memory import MemoryTurns
from .turn import AGAIN, ALL, APPROVER, CallOptions, Status, Turn
from .verbs import VERBS

if TYPE_CHECKING:
    from typing import Self, Unpack

    from .context import TurnContext

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = {"caller", "user", "team", "tool"}


class Team:
    """Participants that call one another by name.

    Enter it, or `start` and `close` it; `run` does both for a script. With a *store* its turns
    survive the process: whoever starts a team of the same participants on the same store takes up
    what is open. *approve* (a participant's name, or a function of a question that gives a bool or
    a text) answers what needs approval; nothing within *approve_within* seconds is a no. In a team
    with agents that names nobody, whoever sits there is asked. The turns of a *shared* participant
    run one after the other.
    """

    def __init__(
        self,
        participants: Mapping[str, Any],
        *,
        tools: Sequence[Any] = (),
        store: Any = None,
        limits: Limits | None = None,
        approve: str | Callable[..., Any] | None = None,
        approve_within: float = 900.0,
        instructions: str = "",
        without: Collection[str] = (),
        shared: Collection[str] = (),
        name: str = "team",
    ) -> None:
        if "finish" in without:
            raise ValueError("finish cannot be removed: give a tool of that name in its place")
        if unknown := set(without) - set(VERBS):
            raise ValueError(f"there are no such verbs: {', '.join(sorted(unknown))}")
        self.name, self.instructions, self.without = name, instructions, frozenset(without)
        self._participants = dict(_named(participants, shared))
        self.tools = [one if isinstance(one, Tool) else tool(one) for one in tools]
        for one in self.tools:
            if [tool.name for tool in self.tools].count(one.name) > 1:
                raise ValueError(f"two tools are called {one.name!r}")
            if one.name in participants:
                raise ValueError(f"a tool and a participant are both called {one.name!r}")
            if one.name not in VERBS:
                self._participants[one.name] = one
        careful = any(one.local for one in self._participants.values())
        self._limits = limits or (CAREFUL if careful else Limits())
        self._participants[ALL] = Function(everyone)
        self._participants[AGAIN] = Function(again)
        if approve is not None:
            self._participants[APPROVER] = Function(_approver(approve, participants))
        elif careful:
            self._participants[APPROVER] = Approver()
        self._approve_within = approve_within
        self._hooks = Hooks()
        self.store = _store(store, name)
        self._kernel: Kernel | None = None
        self._roots: list[Turn] = []
        self._many = 100
        self._only: list[str] | None = None

    # Life

    async def start(self) -> None:
        """Take up what is open in the store, and work from then on until `close`."""
        if self._kernel is not None:
            raise ValueError("the team is started already")
        kernel = Kernel(
            self._participants, self.store, self._hooks, self._limits.at_once, self.name
        )
        self._calls = kernel.calls = Calls(
            kernel,
            self._limits,
            self._approve_within,
            tools=self.tools,
            without=self.without,
            instructions=self.instructions,
        )
        await kernel.open()
        self._kernel = kernel

    async def close(self, grace: float = 0.0) -> None:
        """Stop, when what runs has ended or *grace* seconds, which it is told of, are over.

        A durable store keeps the rest for whoever starts next; without one it is cancelled.
        """
        if self._kernel is not None:
            kernel, self._kernel = self._kernel, None
            await kernel.close(grace)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def serve(self) -> None:
        """Work on what anybody gives this team, until it is cancelled."""
        if self._kernel is not None:
            await asyncio.get_running_loop().create_future()
        async with self:
            await asyncio.get_running_loop().create_future()

    def run(
        self, to: str | Sequence[str], text: Any = "", **options: Unpack[CallOptions]
    ) -> Message:
        """Start, do this one piece of work, and close: for scripts."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._run(to, text, options))
        raise ValueError("an event loop is running here: say `await team.call(…)` instead")

    async def _run(self, to: str | Sequence[str], text: Any, options: CallOptions) -> Message:
        async with self:
            return await self.call(to, text, **options)

    # Work

    def call(
        self,
        to: str | Sequence[str] | Tool,
        text: str | Message | Any = "",
        *,
        id: str | None = None,  # noqa: A002
        when: Every | None = None,
        **options: Unpack[CallOptions],
    ) -> Turn:
        """Give work to *to*, at once; await the turn or leave it in the background.

        The same *id* is the same turn, in this process and in any later one. Several names are
        all called with it. *when* says to do it again and again.
        """
        to = to.name if isinstance(to, Tool) else to
        turn = self._running_calls.call(
            to, text, None, id=id, when=when, only=self._only, **options
        )
        self._roots.append(turn)
        if len(self._roots) > self._many:
            self._roots = [root for root in self._roots if not root.over]
            self._many = 2 * len(self._roots) + 100
        return turn

    def open(self, to: str, **options: Unpack[CallOptions]) -> Turn:
        """Call *to* before there is anything to say: `send` to the turn, and then `finish` it.

        The participant reads it by `async for message in ctx.incoming()`.
        """
        options["open"] = True
        return self.call(to, "", **options)

    def only(self, *names: str) -> Team:
        """The same team, of which a call sees no more than these, all the way down."""
        for name in names:
            if name not in self._participants:
                raise NoParticipant(
                    f"no participant {name!r}: there is {', '.join(self.participants)}"
                )
        fewer: Team = object.__new__(Team)
        fewer.__dict__ = {**self.__dict__, "_only": list(names)}
        return fewer

    @property
    def people(self) -> dict[str, Human]:
        """The persons in it, whoever approves among them."""
        known = self._participants.items()
        return {name: one for name, one in known if isinstance(one, Human)}

    def keep_in_journal(self, name: str) -> None:
        """Have its turns in the journal of this user, as those of the team *name*."""
        from optio_agents.store import default_path

        self.name, self.store = name, _store(default_path(), name)

    @property
    def participants(self) -> list[str]:
        """Their names, in the order given."""
        hidden = {tool.name for tool in self.tools}
        return [n for n in self._participants if not n.startswith("[") and n not in hidden]

    def __getitem__(self, name: str) -> Tool:
        """A participant as a tool for another one."""
        if name not in self._participants:
            raise NoParticipant(f"no participant {name!r}: there is {', '.join(self.participants)}")
        return PeerTool(name, self._participants[name].role)

    async def results(self) -> AsyncIterator[tuple[Turn, Any]]:
        """Every value of the turns called since the last time, as it comes, with its turn."""
        ready: asyncio.Queue[tuple[Turn, Any] | None] = asyncio.Queue()
        roots = [root for root in self._roots if not root.endless]
        self._roots = []

        async def read(root: Turn) -> None:
            try:
                async for message in root:
                    plain = message.text if message.value is None and message.text else None
                    await ready.put((root, message.value if plain is None else plain))
            finally:
                await ready.put(None)

        async with asyncio.TaskGroup() as tasks:
            for root in roots:
                tasks.create_task(read(root))
            left = len(roots)
            while left:
                found = await ready.get()
                if found is None:
                    left -= 1
                else:
                    yield found

    # What is known

    async def status(self, turn: str) -> Status:
        """How far a turn is, also one of an earlier process. Raises NoParticipant for no turn."""
        return await self._running_calls.status(turn)

    async def turns(self, *, status: str | None = None, name: str | None = None) -> list[Status]:
        """All turns of the team, the oldest first."""
        kernel, calls = self._running, self._running_calls
        rows = await kernel.store.look(states=[status] if status else (), name=name)
        return [calls.status_of(row) for row in rows]

    async def find(self, turn: str) -> Turn:
        """The turn of that id, with all below it. Raises NoParticipant."""
        return await self._running.find(turn)

    async def exchange(self, turn: str) -> tuple[Message, ...]:
        """All that was said in a turn and below it, in order."""
        return await self._running_calls.exchange(turn)

    async def dump(self) -> list[dict[str, Any]]:
        """The turns that nobody has begun yet, as JSON, for `load` here or in another team."""
        rows = await self._running.store.look(states=["ready"])
        names = ("id", "name", "message", "parent", "root", "options", "place", "created")
        return [{name: getattr(row, name) for name in names} for row in rows]

    async def load(self, kept: Sequence[Mapping[str, Any]]) -> list[Turn]:
        """Take over turns that were dumped; one that is known here is the same one."""
        kernel = self._running
        for row in kept:
            if row["name"] not in (ALL, AGAIN, APPROVER):
                self._calls.check(row["name"], None, None)
            await kernel.store.put(Row(**row))
        return [await kernel.find(row["id"]) for row in kept]

    async def send(self, turn: str, text: str | Message, *, id: str | None = None) -> int:  # noqa: A002
        """Say something to a turn that is not over, wherever it runs. Once per *id*."""
        message = text if isinstance(text, Message) else Message(text)
        return await self._running_calls.send(turn, message, key=id)

    async def cancel(self, turn: str) -> list[str]:
        """End a turn and all below it, wherever they run; the ids of what was ended."""
        return await self._running.cancel(turn)

    def on(self, point: str, **only: str) -> Callable[[F], F]:
        """Have a function (of the turn and a value) called at *point*: see the table of hooks.

        What a hook returns replaces the value. *only* narrows it: `name="coder"`, `tool="search"`.
        """

        def add(function: F) -> F:
            self._hooks.add(point, function, only)
            return function

        return add

    @property
    def _running(self) -> Kernel:
        if self._kernel is None:
            raise ValueError("the team is not started: use `async with team`, or `team.run(…)`")
        return self._kernel

    @property
    def _running_calls(self) -> Calls:
        assert self._running
        return self._calls


def _named(
    participants: Mapping[str, Any], shared: Collection[str]
) -> Iterator[tuple[str, Participant]]:
    """Each under its name. Raises ValueError, and NoParticipant for one that is to be shared."""
    for name, one in participants.items():
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise ValueError(f"{name!r} cannot be the name of a participant")
        participant = _participant(one)
        if name in shared:
            participant.shared = True
        yield name, participant
    if missing := set(shared) - set(participants):
        raise NoParticipant(f"no participants {', '.join(sorted(missing))} to be shared")


def _participant(one: Any) -> Participant:
    if isinstance(one, Participant):
        return one
    if hasattr(one, "answer"):  # of somebody's own, who may say more of it
        own = Function(one.answer)
        own.role = (type(one).__doc__ or "").strip().partition("\n")[0]
        for name in ("role", "shared", "local", "open", "close"):
            if hasattr(one, name):
                setattr(own, name, getattr(one, name))
        return own
    if callable(one):
        return Function(one)
    raise ValueError(f"{one!r} is no participant: an agent, a model, a person or a function is")


def _approver(approve: Any, participants: Mapping[str, Any]) -> Callable[[TurnContext], Any]:
    if isinstance(approve, str):
        if approve not in participants:
            raise NoParticipant(f"nobody is called {approve!r}, who is to approve")

        async def forward(context: TurnContext) -> Any:
            return context.call(approve, context.message)

        return forward

    async def decide(context: TurnContext) -> Any:
        decision = approve(context.text)
        return await decision if asyncio.iscoroutine(decision) else decision

    return decide


def _store(store: Any, name: str) -> TurnStore:
    if store is None:
        return MemoryTurns()
    if hasattr(store, "claim") and hasattr(store, "put"):
        kept: TurnStore = store
        return kept
    path = getattr(store, "path", store)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{store!r} is no store: give a Store, a path, or a store of turns")
    kind, elsewhere, _ = str(path).partition("://")
    if elsewhere:
        raise ValueError(
            f"turns cannot be kept by {kind}: give a path on this machine, or a store of turns "
            "of your own that reaches further"
        )
    from .stores.sqlite import SqliteTurns

    return SqliteTurns(Path(path), team=name)
