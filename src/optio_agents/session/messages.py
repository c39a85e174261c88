"""Messages to the agent, and the answers to what it wrote: here to its messages, and to DONE."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from optio_agents.concurrency import OnDemand
from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.display import visible_block
from optio_agents.errors import (
    CommandTimedOut,
    EndSession,
    FileRefused,
    HostError,
    HostKeyRefused,
    InputClosed,
    NameTaken,
)
from optio_agents.hosts.retrying import retrying
from optio_agents.store.records import ACCEPTED, REPEATED

from .foreign_code import ForeignExit, describe, describe_value
from .outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.context import HookContext
    from optio_agents.protocol.events import CallerMessageEvent
    from optio_agents.store.records import Entry, Replies, Resumed

    from .progress import Progress
    from .shared import Shared


_log = logging.getLogger(__name__)
_SENDING = 30.0  # seconds for one message to be taken

CALLER_MESSAGE_QUEUE_BOUND = 10_000  # messages that may wait; the next ones are counted and lost


class Channel:
    """One way to the agent, used by one message at a time; *kind* is what the result says."""

    def __init__(self, shared: Shared, progress: Progress) -> None:
        self._shared, self._progress = shared, progress
        self._one_at_a_time = anyio.Lock()
        options = shared.options
        self.kind: Replies = "none"
        self._say: Callable[[str, str], Awaitable[object]]
        if options.reply_sender is not None and not options.deaf:
            self.kind, self._say = "agent", options.reply_sender
        elif (agent := options.agent) is not None and not options.deaf:
            self.kind = "agent"
            self._say = lambda name, text: agent.say(f"{text}\n".encode(), name=name or None)
        elif (sender := options.agent_sender) is not None:
            self.kind, self._say = "sender", lambda _, text: sender(text)

    async def reply(self, name: str, text: str) -> bool | None:
        """Say it as the harness; whether it was taken, None where nobody takes anything.

        A journaled agent waits for it: a host without room, or out of reach, is tried again
        until it takes it.
        """
        if self.kind == "none":
            return None
        send = partial(self._send, name, SYSTEM_MESSAGE_PREFIX + text)
        try:
            if self.kind == "agent":
                await retrying(self._shared.machine, send, passes=may_pass)
            else:
                await send()
        except Exception as error:
            words = f"The agent did not take a message: {describe(error)}"
            self._progress.report(None, words)
            return False
        return True

    async def send(self, text: str) -> None:
        """Say *text* as it is, for `HookContext.send_to_agent`. Raises where it is not taken."""
        if self.kind == "none":
            raise ConnectionError("nobody takes messages")
        await self._send("", text)

    async def _send(self, name: str, text: str) -> None:
        say = partial(self._say, name, text)
        async with self._one_at_a_time:
            try:
                await self._shared.foreign.call("agent_sender", say, seconds=_SENDING)
            except NameTaken:  # by an earlier supervisor, who found other words for it
                return
            except InputClosed:  # an agent that has ended waits for no reply
                _log.info("the agent has ended: it was not told: %s", visible_block(text))
                raise
            except Exception as error:
                self._shared.note_trouble("agent_sender", error)
                _log.warning("the agent was not told: %s", visible_block(text))
                raise


def may_pass(error: Exception) -> bool:
    """It may be over by the next time: a full disk, a lost link, a host that takes its time."""
    final = HostKeyRefused | FileRefused  # the latter: there is no such file or session any more
    return isinstance(error, HostError | OSError) and not isinstance(error, final)


_Item = TypeVar("_Item")


class Answers(Generic[_Item]):
    """What the agent wrote and has no answer to yet, of one kind, in order."""

    def __init__(
        self, shared: Shared, hook: HookContext, channel: Channel, progress: Progress
    ) -> None:
        self._shared, self._hook = shared, hook
        self._channel, self._progress = channel, progress
        self._open: deque[_Item] = deque()
        self._decided: dict[tuple[str, int, int], str] = {}  # by the key of an entry
        self._worker = OnDemand(shared.workers, self._work, failed=shared.fail)

    @property
    def waiting(self) -> int:
        """How many have no answer yet."""
        return len(self._open)

    def remember(self, resumed: Resumed) -> None:
        """What an earlier supervisor decided to answer."""
        self._decided = {entry.key: reply for entry, reply in resumed.replies}

    async def idle(self) -> None:
        """Return once all that came so far has its answer."""
        await self._worker.idle()

    async def _work(self) -> None:
        """Answer what is open."""
        raise NotImplementedError

    async def _call(
        self, about: str, name: str, call: Callable[[], Awaitable[object]]
    ) -> str | None:
        """What a callback has to say; what is neither text nor None is a failure of its own."""
        seconds = self._shared.options.callback_timeout
        answer = await self._shared.foreign.call(name, call, seconds=seconds)
        if answer is None or isinstance(answer, str):
            return answer
        error = TypeError(f"it returned {describe_value(answer)}, not text or None")
        self._report_trouble(about, name, error, how=f"{name} failed")
        return None

    def _report_trouble(self, about: str, name: str, error: Exception, *, how: str = "") -> None:
        self._shared.note_trouble(name, error)
        words = how or f"{name} callback raised"
        self._progress.report(None, f"{about}: {words}: {describe(error)}")


class CallerMessages(Answers[tuple["Entry", "CallerMessageEvent"]]):
    """Calls `on_caller_message` with one after the other; a string it returns is the reply."""

    def announce(self, entry: Entry, event: CallerMessageEvent) -> None:
        """Have *event* answered, when its turn comes."""
        nobody = self._shared.options.on_caller_message is None
        if nobody or len(self._open) >= CALLER_MESSAGE_QUEUE_BOUND:
            self._shared.troubles["caller messages ignored"] += 1
            self._progress.report(None, f"Message {event.keyword}: nobody takes it")
            self._shared.mark_done(entry)
            return
        self._open.append((entry, event))
        self._worker.wake()

    async def _work(self) -> None:
        while self._open:
            entry, event = self._open[0]
            reply = self._decided.get(entry.key)
            if reply is None and (reply := await self._ask(event)):
                await self._shared.journal.decide(entry, reply)
            if reply:
                await self._channel.reply(f"reply-{entry.name}", reply)
            self._open.popleft()
            self._shared.mark_done(entry)

    async def _ask(self, event: CallerMessageEvent) -> str | None:
        callback, name = self._shared.options.on_caller_message, "on_caller_message"
        about = f"Message {event.keyword}"
        assert callback is not None
        try:
            call = partial(callback, self._hook, event.keyword, event.data)
            return await self._call(about, name, call)
        except Exception as error:
            self._report_trouble(about, name, error)
            if isinstance(error, EndSession | ForeignExit):
                return None
            return f"message {event.keyword}: there was trouble on our side. Send it again later."


# Whether DONE holds. The check runs at least once for each. What it refuses is recorded before it
# is said, and said once, under the name of that DONE; what it accepts ends the session. A DONE that
# was written before the agent could know of a refusal is answered with it.


_PATIENCE = 60.0  # seconds that starting the command may fail over a link that is up
_QUOTED = 4000  # characters of what it said last
_LONGEST = 32_768  # characters of a refusal


class DoneCheck(Answers[tuple["Entry", str | None]]):
    """All checks of one run, one after the other, each once all else that came is *answered*."""

    def __init__(
        self,
        shared: Shared,
        hook: HookContext,
        channel: Channel,
        progress: Progress,
        answered: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(shared, hook, channel, progress)
        self._answered, self._refusals = answered, 0
        self.active = shared.options.verify is not None or shared.options.on_done is not None
        self.passed = False
        self.refusal: str | None = None  # the last one, which the agent took

    def remember(self, resumed: Resumed) -> None:
        super().remember(resumed)
        self._refusals = resumed.refusals

    def announce(self, entry: Entry, summary: str | None) -> None:
        """The agent says that it is done."""
        self._open.append((entry, summary))
        self._worker.wake()

    async def _work(self) -> None:
        shared = self._shared
        shared.options.on_check(True)
        try:
            while self._open and shared.decision.ending is None:
                await self._answered()
                entry, summary = self._open[0]
                reply = self._decided.get(entry.key)
                if reply is None:
                    words = await self._run(summary)
                    if shared.decision.ending is not None:
                        return
                    reply = await self._decide(entry, words)
                if reply == ACCEPTED:
                    self._accept()
                    return
                if reply != REPEATED and not await self._say(entry, reply):
                    # and whoever resumes it, finds it open
                    shared.decision.decide(Ending("refused", reply))
                    return
                self._open.popleft()
                shared.mark_done(entry)
        finally:
            shared.options.on_check(False)

    async def _run(self, summary: str | None) -> str | None:
        """What is to be mended; None where nothing is."""
        options, words = self._shared.options, None
        if options.permit is not None:
            await options.permit()
        if options.verify is not None:
            words = await self._run_command(options.verify, options.verify_timeout)
        if words is not None or options.on_done is None:
            return words
        call = partial(options.on_done, self._hook, summary)
        try:
            answer: object = await self._shared.foreign.call(
                "on_done", call, seconds=options.callback_timeout
            )
        except Exception as error:
            self._shared.note_trouble("on_done", error)
            return f"it could not be checked, for trouble on our side: {describe(error)}"
        if answer is not None and not isinstance(answer, str):
            returned = TypeError(f"it returned {describe_value(answer)}, not text or None")
            self._shared.note_trouble("on_done", returned)
            return "it could not be checked, for trouble on our side."
        return answer

    async def _run_command(self, command: str, seconds: float) -> str | None:
        host = self._shared.host
        run = partial(host.run_command, f"exec 2>&1\n{command}", timeout=seconds)
        name = visible_block(command)
        try:
            result = await retrying(host.machine, run, seconds=min(_PATIENCE, seconds))
        except CommandTimedOut:
            return f"`{name}` ran longer than {seconds:g} s and was ended."
        except FileRefused as error:
            return f"`{name}` could not be run: {error}"
        except HostKeyRefused as error:
            self._shared.fail(error)
            return None
        if result.exit_code == 0:
            return None
        said = result.stdout.rstrip()
        last = f", and said last:\n{said[-_QUOTED:]}" if said else ", and said nothing."
        return f"`{name}` ended with exit code {result.exit_code}{last}"

    def _accept(self) -> None:
        (entry, summary), *more = self._open
        self._open.clear()
        self.passed = True
        self._progress.report(None, summary, entry)
        for repeated, _ in more:
            self._progress.report(None, repeated.line, repeated)
        self._shared.decision.decide(Ending("done", summary, verified=True))

    async def _decide(self, entry: Entry, words: str | None) -> str:
        """Record what becomes of *entry*; of a refusal first what else was written before it.

        So a supervisor that comes after us checks *entry* again, or says the same once more.
        """
        if words is None:
            await self._shared.journal.decide(entry, ACCEPTED)
            return ACCEPTED
        for repeated, _ in list(self._open)[1:]:
            await self._shared.journal.decide(repeated, REPEATED)
            self._decided[repeated.key] = REPEATED
        tries = self._shared.options.verify_tries
        count = self._refusals + 1
        reply = f"DONE was not accepted ({count} of {tries}): {words}"[:_LONGEST]
        await self._shared.journal.decide(entry, reply)
        self._refusals = count
        return reply

    async def _say(self, entry: Entry, reply: str) -> bool:
        """Whether the agent can go on and mend it."""
        self._progress.report(None, reply)
        final = self._refusals >= self._shared.options.verify_tries
        text = f"{reply}\nMend that, then write DONE again: that one was not the end."
        if final or not await self._channel.reply(f"reply-{entry.name}", text):
            return False
        self.refusal = reply
        return True
