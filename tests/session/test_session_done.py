"""DONE is what the check says: until that agrees, a session goes on, and it never ends as done."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.display import Secrets
from optio_agents.errors import AgentReportedError, DoneRefused, EndedByHook, EndSession
from optio_agents.session.options import Options
from optio_agents.session.run import run_session
from optio_agents.store.memory import MemoryJournal
from optio_agents.testing.memory import MemoryContext, MemoryHost
from tests.support.sessions.sessions import hand_over, says, says_and_stays, write


class Agent:
    """A body that is told things: it writes DONE, and again whenever it is sent something."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.heard = lines or ("DONE: first",), list[str]()
        self._host = None

    async def body(self, host, _):
        self._host = host
        write(host, *self.lines)
        await anyio.sleep_forever()

    async def send(self, text: str) -> None:
        self.heard.append(text)
        write(self._host, f"DONE: after {len(self.heard)}")


def answers(*words: str | None):
    """A check that gives one after the other, and what it was asked about."""
    asked, left = [], list(words)

    async def on_done(hook, summary):
        asked.append(summary)
        return left.pop(0)

    return on_done, asked


async def test_done_that_is_accepted_is_verified(sessions, ctx):
    on_done, asked = answers(None)
    result = await sessions.run(ctx, body=says_and_stays("DONE: all"), on_done=on_done)
    assert (result.outcome, result.summary, result.verified) == ("done", "all", True)
    assert asked == ["all"]
    assert ctx.messages == ["all"]


async def test_done_without_a_check_is_done_and_not_verified(sessions, ctx):
    result = await sessions.run(ctx, body=says("DONE: all"))
    assert (result.outcome, result.verified) == ("done", False)


async def test_what_is_to_be_mended_is_told_and_that_done_was_not_the_end(sessions, ctx):
    on_done, asked = answers("the tests fail", None)
    agent = Agent()
    result = await sessions.run(ctx, body=agent.body, agent_sender=agent.send, on_done=on_done)
    assert (result.outcome, result.summary, result.verified) == ("done", "after 1", True)
    assert asked == ["first", "after 1"]
    (text,) = agent.heard
    assert text.startswith("System: DONE was not accepted (1 of 3): the tests fail\n")
    assert "that one was not the end" in text
    assert "DONE was not accepted (1 of 3): the tests fail" in ctx.messages[0]


async def test_after_so_many_tries_the_session_is_refused_and_never_done(sessions, ctx):
    on_done, asked = answers("one", "two", "three")
    agent = Agent()
    with pytest.raises(DoneRefused, match=r"3 of 3.*three") as failure:
        await sessions.run(ctx, body=agent.body, agent_sender=agent.send, on_done=on_done)
    assert (failure.value.result.outcome, failure.value.result.verified) == ("refused", False)
    assert len(agent.heard) == 2
    assert len(asked) == 3


async def test_who_takes_no_messages_is_refused_at_the_first_failure(sessions, ctx):
    on_done, asked = answers("no")
    with pytest.raises(DoneRefused, match="1 of 3"):
        await sessions.run(ctx, body=says_and_stays("DONE"), on_done=on_done)
    assert len(asked) == 1


async def test_who_ends_after_a_refusal_is_refused(sessions, ctx):
    on_done, _ = answers("no")
    told = anyio.Event()

    async def body(host, _):
        write(host, "DONE")
        await told.wait()

    async def send(text: str) -> None:
        told.set()

    with pytest.raises(DoneRefused, match="the agent ended"):
        await sessions.run(ctx, body=body, agent_sender=send, on_done=on_done)


async def test_a_body_that_is_gone_before_the_check_is_done_when_it_agrees(sessions, ctx):
    on_done, _ = answers(None)
    result = await sessions.run(ctx, body=says("DONE: all"), on_done=on_done)
    assert (result.outcome, result.verified) == ("done", True)


async def test_it_is_checked_when_its_deliverables_are_answered(sessions, ctx):
    order = []

    async def on_deliverable(hook, path, text):
        await anyio.sleep(0.05)
        order.append(path)

    async def on_done(hook, summary):
        order.append("check")

    async def body(host, _):
        hand_over(host, "a.txt")
        write(host, "DONE")

    await sessions.run(ctx, body=body, on_deliverable=on_deliverable, on_done=on_done)
    assert order == ["a.txt", "check"]


async def test_a_second_done_before_the_answer_is_the_same_try(sessions, ctx):
    on_done, asked = answers("mend", None)
    agent = Agent("DONE: first", "DONE: once more")
    result = await sessions.run(ctx, body=agent.body, agent_sender=agent.send, on_done=on_done)
    assert asked == ["first", "after 1"]
    assert len(agent.heard) == 1
    assert result.summary == "after 1"


async def test_an_error_while_it_is_checked_is_the_end(sessions, ctx):
    asked = anyio.Event()

    async def on_done(hook, summary):
        asked.set()
        await anyio.sleep_forever()

    async def body(host, _):
        write(host, "DONE")
        await asked.wait()
        write(host, "ERROR: no, it is broken")
        await anyio.sleep_forever()

    with pytest.raises(AgentReportedError, match="it is broken"):
        await sessions.run(ctx, body=body, on_done=on_done)


async def test_a_check_that_raises_accepts_nothing(sessions, ctx):
    async def on_done(hook, summary):
        raise OSError("no room")

    with pytest.raises(DoneRefused, match="trouble on our side: OSError: no room"):
        await sessions.run(ctx, body=says("DONE"), on_done=on_done)


async def test_a_check_that_returns_nonsense_accepts_nothing(sessions, ctx):
    async def on_done(hook, summary):
        return True

    with pytest.raises(DoneRefused, match="could not be checked"):
        await sessions.run(ctx, body=says("DONE"), on_done=on_done)


async def test_a_check_may_end_the_session(sessions, ctx):
    async def on_done(hook, summary):
        raise EndSession("enough")

    with pytest.raises(EndedByHook, match="enough"):
        await sessions.run(ctx, body=says("DONE"), on_done=on_done)


async def test_the_error_of_a_refusal_shows_no_credential():
    async def body(host, _):
        host.append("DONE")

    on_done, _ = answers("s3cret-token stands in the code")
    secrets = Secrets({"A_TOKEN": "s3cret-token"})
    options = Options(body=body, on_done=on_done, secrets=secrets)
    with pytest.raises(DoneRefused, match=r"\[A_TOKEN\] stands in the code"):
        await run_session(MemoryHost(), MemoryContext(), options)


async def three(hook, path, text):
    return None


async def test_a_check_of_the_wrong_shape_is_refused_before_anything_begins(sessions, ctx):
    with pytest.raises(ValueError, match=r"on_done\(hook_ctx, summary\)"):
        await sessions.run(ctx, body=says("DONE"), on_done=three, verify_tries=1)
    on_done, _ = answers(None)
    with pytest.raises(ValueError, match="verify_tries"):
        await sessions.run(ctx, body=says("DONE"), on_done=on_done, verify_tries=0)


async def test_a_journal_remembers_how_often_it_was_refused(sessions, ctx):
    journal, agent = MemoryJournal(), Agent()
    on_done, _ = answers("one", "two", "three")
    with pytest.raises(DoneRefused):
        await sessions.run(
            ctx, body=agent.body, agent_sender=agent.send, on_done=on_done, journal=journal
        )
    known = await journal.start()
    assert (known.refusals, known.accepted, known.ending) == (3, False, None)
