"""Sessions in this terminal: what is shown and asked, what Ctrl-C means, and the exit code.

A `Terminal` shows sessions to their ends; each is a `ShownSession`, which supervises or looks on.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from optio_agents.cli import exits
from optio_agents.cli.exits import sentence
from optio_agents.cli.output import mute, noticing_silence, telling_if_slow, warnings
from optio_agents.concurrency import task_group
from optio_agents.display import visible
from optio_agents.errors import (
    HostError,
    HostUnreachable,
    OptioAgentsError,
    SessionFailed,
    StoreError,
)
from optio_agents.store.records import SessionResult
from optio_agents.supervision.events import OpenRequest, RequestDecided, RequestOpened, StateChanged
from optio_agents.supervision.supervise import supervise

from .keys import can_be_drawn_on, operator_name
from .notify import notifier, target
from .records import LinesView, records_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.abc import TaskGroup

    from optio_agents.cli.options import CommandOptions
    from optio_agents.conversation import PermissionDecision, PermissionRequest
    from optio_agents.hosts.host import Host
    from optio_agents.store import Store
    from optio_agents.supervision.events import Observer, SessionEvent
    from optio_agents.supervision.kinds import AgentSpec
    from optio_agents.supervision.live import Session

    from .live import LiveView
    from .notify import Notifier

    View: TypeAlias = LinesView | LiveView


# Ctrl-C and the other ways to ask this process to end, and what they mean for its sessions.


_AGAIN = 5.0  # seconds within which a second Ctrl-C leaves
_SLOW = 0.5  # seconds after which leaving is said to take longer


@asynccontextmanager
async def signals(terminal: Terminal) -> AsyncIterator[None]:
    """Ctrl-C once interrupts the turn, twice leaves; a polite end of ours leaves at once."""
    loop, sessions = asyncio.get_running_loop(), terminal.sessions
    pressed = float("-inf")

    def interrupt() -> None:
        nonlocal pressed
        if terminal.left.is_set():
            return None
        before, pressed = pressed, loop.time()
        if pressed - before < _AGAIN or not any(one.began for one in sessions):
            return terminal.leave()
        if all(one.looks_on for one in sessions):  # the turn is another's to interrupt
            return terminal.leave()
        after = (
            "stops the agent" if terminal.options.stop_on_exit else "leaves, and the agent goes on"
        )
        if len(sessions) > 1:  # whose turn was meant?
            terminal.view.say(
                f"Ctrl-C again {after}; one turn ends with: optio-agents interrupt ID"
            )
            return None
        terminal.view.say(f"interrupting; Ctrl-C again {after}")
        tasks.start_soon(sessions[0].interrupt)
        return None

    async def tell() -> None:
        await terminal.left.wait()
        await anyio.sleep(_SLOW)  # as a rule we are gone by then
        terminal.view.say("leaving; this takes a moment")

    async with task_group() as tasks:
        tasks.start_soon(tell)
        loop.add_signal_handler(signal.SIGINT, interrupt)
        for number in signal.SIGTERM, signal.SIGHUP:
            loop.add_signal_handler(number, terminal.leave)
        try:
            with noticing_silence(terminal.leave):
                yield
        finally:
            for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
                loop.remove_signal_handler(number)
                # From here on we end, within bounds: to die of a third Ctrl-C would hide how.
                signal.signal(number, lambda *_: None)
            tasks.cancel_scope.cancel()


# A session to its end: how it ended, or, where another process had it, its exit code.
Run: TypeAlias = Callable[["ShownSession"], Awaitable[SessionResult | int]]

# The sessions that are to be run, by their ids.
FindRuns: TypeAlias = Callable[["Terminal"], Awaitable[dict[str, Run]]]

_SOON = 5.0  # seconds until a session that began elsewhere is seen
_INTERRUPTING = 20.0  # seconds for the agent to be reached with an interrupt


@dataclass(slots=True)
class ShownSession:
    """One session: what it does is shown, what it asks is asked, and the signals reach it."""

    session: str
    terminal: Terminal
    detach: anyio.Event = field(default_factory=anyio.Event)
    cancel: anyio.Event = field(default_factory=anyio.Event)
    trying: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    began: bool = False  # until then there is nothing to leave behind
    looks_on: bool = False  # another process owns it
    live: Session | None = None
    name: str = ""
    tasks: TaskGroup | None = None  # while it is shown
    _asked: dict[str, anyio.CancelScope] = field(default_factory=dict)
    _by: str = field(default_factory=operator_name)

    @property
    def called(self) -> str:
        """What a person types for it."""
        known = self.terminal.view.known.get(self.session)
        return visible(self.name or (known and known.facts.get("name")) or self.session)

    def observe(self, event: SessionEvent) -> None:
        self.began = True
        self._notify(event)
        try:
            self.terminal.view.observe(self.session, event)
        except BrokenPipeError:
            mute()
            self.terminal.leave()
        match event:
            case StateChanged(state) if state.phase == "idle":
                hint = f"optio-agents send {self.called} TEXT"
                self.terminal.view.say(f"it has ended its turn without DONE, and waits: {hint}")
            case RequestOpened(request, digest):
                self._put(OpenRequest(request, digest))
            case RequestDecided(request_id, how, by) if request_id in self._asked:
                self._asked.pop(request_id).cancel()
                if by != self._by:
                    self.terminal.view.say(f"answered at another terminal: {how} by {by}")

    def _notify(self, event: SessionEvent) -> None:
        """Tell a person who is away from the terminal, where it takes one."""
        if (notifier := self.terminal.notifier) is None:
            return
        may_ask = self.terminal.options.permission == "ask"
        # it waits, and nothing but a person's word will make it go on
        idle = isinstance(event, StateChanged) and event.state.phase == "idle"
        for record in records_of(event, self.session):
            asked = record["kind"] in ("permission", "question") and may_ask
            lost = record["kind"] == "link" and record["state"] not in ("new", "up", "closed")
            kinds = ("attention", "finished", "turn")
            if asked or lost or idle or record["kind"] in kinds:
                notifier.queue(record)

    def _put(self, opened: OpenRequest) -> None:
        """Ask the person here, or tell them where to answer."""
        view, request = self.terminal.view, opened.request
        if self.terminal.options.permission != "ask" or request.id in self._asked:
            return
        if view.ask is not None and self.tasks is not None:
            self._asked[request.id] = scope = anyio.CancelScope()
            self.tasks.start_soon(self._ask, opened, scope)
        else:
            from .questions import questions

            verb = "answer" if questions(request) else "approve"
            view.say(f"decide it: optio-agents {verb} {self.called} {request.id}")

    async def _ask(self, opened: OpenRequest, scope: anyio.CancelScope) -> None:
        """Until the person here, or somebody else, has decided; the first answer wins."""
        view = self.terminal.view
        assert view.ask is not None
        with scope:
            decision = await view.ask(self.session, opened.request)
        if scope.cancelled_caught or self.live is None:
            return
        self._asked.pop(opened.request.id, None)
        try:
            outcome = await self.live.answer(opened, decision, by=self._by)
        except OptioAgentsError as error:
            view.say(f"not answered: {sentence(error)}")
        else:
            if not outcome.won:
                view.say(f"it was answered before, by {visible(outcome.by)}")

    async def interrupt(self) -> None:
        try:
            with anyio.fail_after(_INTERRUPTING):
                if self.live is not None:
                    await self.live.interrupt(by=self._by)
        except TimeoutError:
            self.terminal.view.say("not interrupted: the agent could not be reached in time")
        except OptioAgentsError as error:
            self.terminal.view.say(f"not interrupted: {sentence(error)}")

    async def supervise(
        self,
        host: Host | None,
        agent: AgentSpec | None = None,
        *,
        name: str | None = None,
        observer: Observer | None = None,
        **more: Any,
    ) -> SessionResult:
        """Own it and see it to its end; *more* is what `optio_agents.supervise` takes besides."""
        options, self.name = self.terminal.options, name or self.name
        supervision = supervise(
            host,
            agent,
            store=self.terminal.store,
            name=name,
            on_permission_request=None if options.permission == "ask" else _deny,
            permission_timeout=options.permission_timeout,
            save_deliverables_to=options.save,
            observer=observer or self.observe,
            stall_after=options.stall_after,
            lost_after=options.lost_after,
            detach_when=self.detach,
            cancel_when=self.cancel,
            take_over=options.take_over,
            **more,
        )
        async with supervision as self.live:
            warnings.hide(self.live.secrets)
            try:
                return await self.live.result()
            finally:
                self.live = None

    def leave(self) -> None:
        """End our part: the agent goes on, or is stopped where that was asked for."""
        if not (self.began or self.looks_on):
            self.trying.cancel()
        (self.cancel if self.terminal.options.stop_on_exit else self.detach).set()


def _deny(_: PermissionRequest) -> PermissionDecision:
    """Decide where nobody may be asked."""
    from .questions import deny  # what an agent asks is loaded when one may ask

    return deny("This was not allowed beforehand, and nobody may be asked.")


@dataclass(slots=True, kw_only=True)
class Terminal:
    """Where sessions are shown, and how; the same for all of them."""

    options: CommandOptions
    view: View
    store: Store
    sessions: list[ShownSession] = field(default_factory=list)
    notifier: Notifier | None = None
    left: anyio.Event = field(default_factory=anyio.Event)  # our part is about to end
    _pressed: float = float("-inf")  # when `q` was

    def leave(self) -> None:
        """End our part in all sessions."""
        self.left.set()
        for shown in self.sessions:
            shown.leave()

    def press_q(self) -> None:
        """Leave at once, but where that stops agents, when it is asked twice."""
        before, self._pressed = self._pressed, asyncio.get_running_loop().time()
        if self.options.stop_on_exit and self._pressed - before > _AGAIN:
            self.view.say("q again stops the agent")
        else:
            self.leave()

    async def show(
        self, sessions: Mapping[str, Run], *, more: FindRuns | None = None, where: str = ""
    ) -> int:
        """Run all *sessions* to their ends; the exit code is the highest of theirs.

        With *more*, go on until somebody leaves, with those that it finds meanwhile. *where* is
        the host of a single one that may have to be waited for.
        """
        codes: list[int] = []
        runs, alone = dict(sessions), len(sessions) == 1 and more is None
        self.sessions = every = [ShownSession(session, self) for session in sessions]
        async with AsyncExitStack() as stack:
            if self.options.notify:
                # what it prints would tear a live view
                output = subprocess.DEVNULL if sys.stdout.isatty() else None
                program = target(self.options.notify, self.view.say, output)
                notifying = notifier(program, self.options.page)
                self.notifier = await stack.enter_async_context(notifying)
            stack.enter_context(self.view.shown(sessions, self.press_q))
            await stack.enter_async_context(signals(self))

            async def run(shown: ShownSession) -> None:
                known = shown.session in self.view.known  # it runs, whether we reach it or not
                code = exits.DETACHED if known else exits.CANCELLED
                if self.options.detach:
                    shown.detach.set()
                waiting = telling_if_slow(
                    f"waiting for {where} …",
                    say=self.view.say,
                    unless=lambda: shown.began or not where,
                )
                async with task_group() as shown.tasks:
                    with waiting, shown.trying:
                        code = await _to_its_end(shown, runs[shown.session], alone=alone)
                    shown.tasks.cancel_scope.cancel()
                codes.append(code)

            async with task_group() as tasks:
                for shown in every:
                    tasks.start_soon(run, shown)
                while more is not None and not self.left.is_set():
                    for session, new in (await more(self)).items():
                        if session not in runs and not self.left.is_set():
                            runs[session] = new
                            every.append(ShownSession(session, self))
                            tasks.start_soon(run, every[-1])
                    with anyio.move_on_after(_SOON):
                        await self.left.wait()
        if not alone and (left := codes.count(exits.DETACHED)):
            they = f"{left} agents go" if left > 1 else "one agent goes"
            self.view.say(f"{they} on; come back with: optio-agents attach")
        code = max(codes, default=exits.DONE)
        return exits.SPOILED if code == exits.DONE and self.view.spoiled else code


@asynccontextmanager
async def open_terminal(options: CommandOptions) -> AsyncIterator[Terminal]:
    """Live where a person watches, lines where a program does."""
    from optio_agents.store import Store

    async with Store() as store:
        view: View = LinesView(as_lines=options.as_lines)
        if can_be_drawn_on() and not options.as_lines:
            from .live import LiveView  # rich takes a while

            view = LiveView()
        yield Terminal(options=options, view=view, store=store)


async def _to_its_end(shown: ShownSession, run: Run, *, alone: bool) -> int:
    say = shown.terminal.view.say
    try:
        result = await run(shown)
    except SessionFailed as failed:
        _tell_failure(failed, say, "" if alone else f"{shown.called}: ")
        if isinstance(failed, HostUnreachable):
            say(f"once it is back: optio-agents attach {shown.called}")
        return exits.exit_code(failed)
    except OptioAgentsError as error:
        if shown.began and (words := await _way_back(shown, error)):
            say(words)
        if alone:
            raise
        say(f"{shown.called}: {sentence(error)}")  # the others go on
        return exits.exit_code(error)
    code = result if isinstance(result, int) else exits.outcome_code(result)
    if code == exits.SPOILED and not isinstance(result, int):
        spoiled = ", ".join(f"{name} ({count} times)" for name, count in result.failures.items())
        say(f"the agent is done, and on our side failed: {spoiled}")
    if code == exits.DETACHED and alone:
        say(f"the agent goes on; come back with: optio-agents attach {shown.called}")
    return code


async def _way_back(shown: ShownSession, error: OptioAgentsError) -> str | None:
    """To a session that is not over, though *error* ends our part in it."""
    if isinstance(error, StoreError):
        return f"the agent goes on; once that is mended: optio-agents attach {shown.called}"
    if isinstance(error, HostError):
        known = await shown.terminal.store.find(shown.session)  # None: nothing was started
        if known is not None and not known.over:
            return f"it may run there; once that is mended: optio-agents attach {shown.called}"
    return None


def _tell_failure(failed: SessionFailed, say: Callable[[str], None], whose: str) -> None:
    say(f"{whose}{visible(str(failed))}")
    for line in failed.last_lines[-3:]:
        if line not in str(failed):  # which has said it
            say(f"  {visible(line)}")
    if failed.stderr.strip():
        say(f"  stderr: {visible(failed.stderr.strip()[-400:])}")
