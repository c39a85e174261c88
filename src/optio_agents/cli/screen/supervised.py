"""Sessions under the eyes of this terminal: view, signals, notifications, exit code."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import anyio

from optio_agents.cli import exits
from optio_agents.cli.exits import sentence
from optio_agents.cli.output import mute, noticing_silence
from optio_agents.concurrency import task_group
from optio_agents.display import visible
from optio_agents.errors import HostUnreachable, OptioAgentsError, SessionFailed
from optio_agents.store.records import SessionResult
from optio_agents.supervision.events import RequestDecided, RequestOpened
from optio_agents.supervision.sessions import owner_name

from .notify import Program, notifier
from .questions import deny, questions
from .records import records_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from optio_agents.conversation.contract import (
        PermissionDecision,
        PermissionHandler,
        PermissionRequest,
    )
    from optio_agents.store import Store
    from optio_agents.supervision.events import SessionEvent
    from optio_agents.supervision.live import Session

    from .lines import View
    from .notify import Notifier


# Ctrl-C and the other ways to ask this process to end, and what they mean for its sessions.


_AGAIN = 5.0  # seconds within which a second Ctrl-C leaves


@asynccontextmanager
async def signals(sessions: Sequence[Supervised]) -> AsyncIterator[None]:
    """Ctrl-C once interrupts the turn, twice leaves; a polite end of ours leaves at once."""
    loop, manner = asyncio.get_running_loop(), sessions[0].manner
    pressed = float("-inf")

    def leave() -> None:
        for supervision in sessions:
            supervision.leave()

    def interrupt() -> None:
        nonlocal pressed
        if sessions[0].leaving:
            return manner.view.say("leaving; this takes a moment")
        before, pressed = pressed, loop.time()
        if pressed - before < _AGAIN or not any(one.began for one in sessions):
            return leave()
        after = "stops the agent" if manner.stop_on_exit else "leaves, and the agent goes on"
        if len(sessions) > 1:  # whose turn was meant?
            manner.view.say(f"Ctrl-C again {after}; one turn ends with: optio-agents interrupt ID")
            return None
        manner.view.say(f"interrupting; Ctrl-C again {after}")
        tasks.start_soon(sessions[0].interrupt)
        return None

    async with task_group() as tasks:
        loop.add_signal_handler(signal.SIGINT, interrupt)
        for number in signal.SIGTERM, signal.SIGHUP:
            loop.add_signal_handler(number, leave)
        try:
            with noticing_silence(leave):
                yield
        finally:
            for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
                loop.remove_signal_handler(number)
                # From here on we end, within bounds: to die of a third Ctrl-C would hide how.
                signal.signal(number, lambda *_: None)
            tasks.cancel_scope.cancel()


# A supervision to its end: how it ended, or, where another process had it, its exit code.
Start: TypeAlias = Callable[["Supervised"], Awaitable[SessionResult | int]]

_INTERRUPTING = 20.0  # seconds for the agent to be reached with an interrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How this terminal supervises; the same for all its sessions."""

    view: View
    store: Store
    stop_on_exit: bool = False
    notify: str | None = None
    permission: str = "ask"  # or deny, allow-listed: nobody is asked


@dataclass(slots=True)
class Supervised:
    """One session: what `supervise` is given, and what the signals reach."""

    session: str
    manner: Manner
    notifier: Notifier | None
    detach: anyio.Event = field(default_factory=anyio.Event)
    cancel: anyio.Event = field(default_factory=anyio.Event)
    trying: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    began: bool = False  # until then there is nothing to leave behind
    live: Session | None = None
    _asked: set[str] = field(default_factory=set)
    _by: str = field(default_factory=owner_name)

    def observe(self, event: SessionEvent) -> None:
        self.began = True
        self._notify(event)
        try:
            self.manner.view.observe(self.session, event)
        except BrokenPipeError:
            mute()
            self.leave()
        match event:
            case RequestOpened(request) if self.on_permission_request is None:
                verb = "answer" if questions(request) else "approve"
                self.manner.view.say(f"decide it: optio-agents {verb} {self.session} {request.id}")
            case RequestDecided(request_id, how, by) if request_id in self._asked:
                self._asked.remove(request_id)
                if by != self._by:
                    self.manner.view.say(f"answered at another terminal: {how} by {by}")

    def _notify(self, event: SessionEvent) -> None:
        """Tell a person who is away from the terminal, where it takes one."""
        for record in records_of(event, self.session) if self.notifier else ():
            asked = record["kind"] in ("permission", "question") and self.manner.permission == "ask"
            lost = record["kind"] == "link" and record["state"] not in ("new", "up", "closed")
            kinds = ("attention", "finished", "turn")
            if self.notifier and (asked or lost or record["kind"] in kinds):
                self.notifier.queue(record)

    @property
    def on_permission_request(self) -> PermissionHandler | None:
        """Who decides: nobody may be asked, the person here, or whoever says `approve`."""
        if self.manner.permission != "ask":
            return lambda _: deny("This was not allowed beforehand, and nobody may be asked.")
        return None if self.manner.view.ask is None else self._ask

    async def _ask(self, request: PermissionRequest) -> PermissionDecision:
        """Ask the person here; cancelled when somebody else has answered."""
        assert self.manner.view.ask is not None
        self._asked.add(request.id)
        return await self.manner.view.ask(self.session, request)

    async def interrupt(self) -> None:
        try:
            with anyio.fail_after(_INTERRUPTING):
                if self.live is not None:
                    await self.live.interrupt()
        except TimeoutError:
            self.manner.view.say("not interrupted: the agent could not be reached in time")
        except OptioAgentsError as error:
            self.manner.view.say(f"not interrupted: {sentence(error)}")

    @property
    def leaving(self) -> bool:
        """Our part is about to end."""
        return self.cancel.is_set() or self.detach.is_set()

    async def goes_on(self, supervision: AbstractAsyncContextManager[Session]) -> SessionResult:
        """See *supervision*, that of this session, to its end."""
        async with supervision as self.live:
            try:
                return await self.live.result()
            finally:
                self.live = None

    def leave(self) -> None:
        """End our part: the agent goes on, or is stopped where that was asked for."""
        if not self.began:
            self.trying.cancel()
        (self.cancel if self.manner.stop_on_exit else self.detach).set()


async def supervised(manner: Manner, sessions: Mapping[str, Start]) -> int:
    """Run all *sessions* to their ends; the exit code is the highest of theirs."""
    codes: list[int] = []
    async with AsyncExitStack() as stack:
        telling = None
        if manner.notify:
            # what it prints would tear a live view
            output = subprocess.DEVNULL if sys.stdout.isatty() else None
            program = Program(manner.notify, manner.view.say, output)
            telling = await stack.enter_async_context(notifier(program))
        every = [Supervised(session, manner, telling) for session in sessions]
        stack.enter_context(manner.view.shown(sessions))
        await stack.enter_async_context(signals(every))

        async def one(supervision: Supervised) -> None:
            start, code = sessions[supervision.session], exits.CANCELLED
            with supervision.trying:
                code = await _to_its_end(supervision, start, alone=len(every) == 1)
            codes.append(code)

        async with task_group() as tasks:
            for supervision in every:
                tasks.start_soon(one, supervision)
    code = max(codes, default=exits.DONE)
    return exits.SPOILED if code == exits.DONE and manner.view.spoiled else code


async def _to_its_end(supervision: Supervised, start: Start, *, alone: bool) -> int:
    say = supervision.manner.view.say
    try:
        result = await start(supervision)
    except SessionFailed as failed:
        say(visible(str(failed)))
        for line in failed.last_lines[-3:]:
            say(f"  {visible(line)}")
        if failed.stderr.strip():
            say(f"  stderr: {visible(failed.stderr.strip()[-400:])}")
        if isinstance(failed, HostUnreachable):
            say(f"once it is back: optio-agents attach {supervision.session}")
        return exits.exit_code(failed)
    except OptioAgentsError as error:
        if alone:
            raise
        say(f"{supervision.session}: {sentence(error)}")  # the others go on
        return exits.exit_code(error)
    code = result if isinstance(result, int) else exits.outcome_code(result)
    if code == exits.SPOILED and not isinstance(result, int):
        spoiled = ", ".join(f"{name} ({count} times)" for name, count in result.failures.items())
        say(f"the agent is done, and on our side failed: {spoiled}")
    if code == exits.DETACHED:
        say(f"the agent goes on; come back with: optio-agents attach {supervision.session}")
    return code
