"""What supervised agents of every make can: go on, be steered, hear reasons, deliver unasked."""

# ruff: noqa: ASYNC110, ASYNC240  # files send no events, and nobody else needs the loop

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.conversation import Attachment, PermissionDecision
from optio_agents.conversation.codex.wire import permission_answer
from optio_agents.errors import AgentError
from optio_agents.hosts.host import make_host
from optio_agents.supervision import Claude, Codex, Command, events as happened, find_session
from optio_agents.supervision.kinds import SETUP
from optio_agents.supervision.kinds.deciding import delivered_to, is_report
from optio_agents.supervision.sessions import past_session
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.supervision.test_served import PNG
from tests.supervision.test_supervise_agents import entry, spec_of
from tests.supervision.test_supervise_claude import claude
from tests.support.agents.table import GUIDE
from tests.support.leaks import no_process_left
from tests.support.proc import tagged
from tests.support.sessions.supervising import Office, Watching
from tests.support.timeouts import BOUND

ALLOW = PermissionDecision("allow")


def spec_for(agent: str, office: Office, model: ModelServer, *steps: dict[str, Any]) -> Any:
    if agent == "claude":
        return claude(office.directory, model, *steps)
    return spec_of(agent, office.directory, model, *steps)


def done_in(logdir: str) -> dict[str, Any]:
    return {"shell": f"printf '%s\\n' 'DONE: all' >> {logdir}/optio.log"}


@pytest.mark.parametrize(
    ("agent", "fork"),
    [("claude", True), ("codex", False), ("codex", True), ("kimi", False)],
)
async def test_another_session_goes_on_with_one_that_is_over(
    office: Office, agent: str, fork: bool
) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store:
            async with office.host() as host:
                steps = done_in(f"{office.taskdir}/workdir"), {"text": "the first answer"}
                spec = spec_for(agent, office, model, *steps)
                first = await supervise(
                    host, spec, store=store, on_permission_request=lambda _: ALLOW
                )
            past = await past_session(store, first.session)
            assert (past.agent, past.cwd) == (agent if agent != "kimi" else "acp", host.workdir)
            again = str(office.directory / "again")
            async with make_host(taskdir=again, workdir=past.cwd) as host:
                more = scripted(done_in(host.logdir), {"text": "the second"})
                spec = replace(spec, prompt=more, continues=past.conversation, fork=fork)
                second = supervise(host, spec, store=store, on_permission_request=lambda _: ALLOW)
                async with second as session:
                    result = await session.result()
                    conversation = await session.conversation()
    assert (first.outcome, result.outcome) == ("done", "done")
    assert "the first answer" in json.dumps(model.requests[-1])
    assert (conversation == past.conversation) is not fork


@pytest.mark.parametrize("agent", ["claude", "codex"])
async def test_a_turn_is_steered_by_its_owner_and_by_anybody_else(
    office: Office, agent: str
) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_for(agent, office, model, {"text": "one", "hold": "x"})
            supervising = supervise(host, spec, store=store, observer=watching)
            async with supervising as session:
                await model.held("x")
                await watching.until(lambda: session.state.phase == "working")
                async with find_session(session.id, store=store) as other:
                    await other.steer("says another")
                await session.steer("says the owner")
                model.release("x")
                while "says the owner" not in json.dumps(model.requests):
                    await anyio.sleep(0.02)
                assert "says another" in json.dumps(model.requests)
                await session.stop()
    assert [one.text for one in watching.of(happened.MessageSent)][-1] == "says the owner"


@pytest.mark.parametrize("agent", ["claude", "codex"])
async def test_an_image_goes_with_the_first_prompt(office: Office, agent: str) -> None:
    image = Attachment("image/png", PNG)
    steps = done_in(f"{office.taskdir}/workdir"), {"text": "seen"}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.host() as host:
            spec = replace(spec_for(agent, office, model, *steps), attachments=[image])
            result = await supervise(host, spec, on_permission_request=lambda _: ALLOW, restart=1)
            assert "iVBORw0KGgo" in json.dumps(model.requests)
    assert result.outcome == "done"


async def test_a_prompt_whose_file_cannot_be_shown_fails_the_session(office: Office) -> None:
    odd = Attachment("x/odd", b"?")
    with pytest.raises(ValueError, match="cannot be shown"):
        Claude("look", attachments=[odd])
    with pytest.raises(ValueError, match="go with a prompt"):
        Codex(attachments=[odd])
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.host() as host:
            spec = spec_for("codex", office, model, {"text": "never"})
            with pytest.raises(AgentError, match="the prompt was not said"):
                await supervise(host, replace(spec, attachments=[odd]))
    assert not any("never" in json.dumps(one) for one in model.requests)


@pytest.mark.parametrize("agent", ["claude", "codex"])
async def test_an_image_is_sent_by_anybody_and_waits_as_any_message(
    office: Office, agent: str
) -> None:
    watching, image = Watching(), Attachment("image/png", PNG)
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_for(agent, office, model, {"text": "one", "hold": "x"})
            async with supervise(host, spec, store=store, observer=watching) as session:
                await model.held("x")
                odd = Attachment("x/odd", b"?")
                async with find_session(session.id, store=store) as other:
                    if agent == "claude":
                        with pytest.raises(ValueError, match="cannot be shown"):
                            await other.send("look", attachments=[odd])
                    else:
                        await other.send("look", attachments=[odd])
                    await other.send("here it is", attachments=[image])
                model.release("x")
                while "iVBORw0KGgo" not in json.dumps(model.requests):
                    await anyio.sleep(0.02)
                await session.stop()
    notices = [one.text for one in watching.of(happened.Notice) if "was not said" in one.text]
    assert len(notices) == (agent == "codex")


@pytest.mark.parametrize("agent", ["gemini", "command"])
async def test_an_agent_that_cannot_be_steered_says_so(office: Office, agent: str) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec: Any = Command(["sleep", "600"])
            if agent == "gemini":
                spec = spec_of(agent, office.directory, model, {"text": "one", "hold": "x"})
            async with supervise(host, spec, store=store) as session:
                if agent == "gemini":
                    await model.held("x")
                    while session.state.phase != "working":
                        await anyio.sleep(0.02)
                for where in session, None:
                    async with find_session(session.id, store=store) as other:
                        with pytest.raises(AgentError, match=r"hears nothing|no turns"):
                            await (where or other).steer("psst")
                await session.stop()


async def test_a_reason_outlives_everybody_and_a_changed_input_is_refused(office: Office) -> None:
    """Said at another terminal while nobody owns the session, it is the next message."""
    touch = {"shell": "touch made"}
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store:
            async with office.host() as host:
                spec = spec_of("gemini", office.directory, model, touch, {"text": "well"})
                async with supervise(host, spec, store=store) as session:
                    while not session.requests:
                        await anyio.sleep(0.02)
                    (shown,) = session.requests
                    changed = PermissionDecision("allow", {"command": "touch other"})
                    with pytest.raises(ValueError, match="other input"):
                        await session.answer(shown, changed)
                    await session.detach()
            async with find_session(session.id, store=store) as other:
                denial = PermissionDecision("deny", message="not on my watch")
                await other.answer(shown, denial)
            end = done_in(f"{office.taskdir}/workdir")
            async with supervise(
                None,
                resume=session.id,
                store=store,
                observer=watching,
                on_permission_request=lambda _: changed,
            ) as again:
                while "not on my watch" not in json.dumps(model.requests):
                    await anyio.sleep(0.02)
                await again.send(scripted(touch, end, {"text": "bye"}))
                result = await again.result()
    assert result.outcome == "done"
    workdir = Path(office.taskdir, "workdir")
    assert not [name for name in ("made", "other") if (workdir / name).exists()]
    assert [one.behavior for one in watching.of(happened.RequestDecided)][-1] == "deny"
    async with office.store() as store:
        rows = await store.events(session.id)
    assert "not on my watch" in str([row.value for row in rows if row.kind == "sent"])
    assert any("other input" in one.text for one in watching.of(happened.Notice))


async def test_the_owner_tells_a_reason_whose_giver_died_before_it_was_a_message(
    office: Office,
) -> None:
    end = done_in(f"{office.taskdir}/workdir"), {"text": "bye"}
    reason = scripted(*end, say="Do this instead.")
    touch = {"shell": f"touch {office.directory}/made"}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of("codex", office.directory, model, touch, {"text": "well"})
            async with supervise(host, spec, store=store) as session:
                while not session.requests:
                    await anyio.sleep(0.02)
                asked = session.requests[0].request
                data = permission_answer(asked, PermissionDecision("deny"))
                async with agents.adopt(host) as agent:
                    agent.detach()  # or leaving it would stop it
                    await agent.answer(asked.names[0], data, by="gone", reason=reason)
                result = await session.result()
            sent = [row.value for row in await store.events(session.id) if row.kind == "sent"]
    assert result.outcome == "done"
    assert not (office.directory / "made").exists()
    assert [one["by"] for one in sent] == ["gone"]


LOG = "/w/it's/.optio/1/optio.log"
QUOTED = "'/w/it'\"'\"'s/.optio/1/optio.log'"


@pytest.mark.parametrize(
    ("command", "reports"),
    [
        (f"printf '%s\\n' 'STATUS: 5% `x` $(y) ; z' >> {QUOTED}", True),
        (f"echo 'DONE' >> {QUOTED}", True),
        (f"echo 'DONE' >> {QUOTED}; rm -rf ~", False),
        (f"echo 'DONE' >> {QUOTED} && touch x", False),
        (f"echo 'DONE' >> {QUOTED}\ntouch x", False),
        (f"echo 'DONE\ntouch x' >> {QUOTED}", False),
        (f"echo 'DO'$(touch x)'NE' >> {QUOTED}", False),
        (f'echo "$(touch x)" >> {QUOTED}', False),
        (f"echo 'DONE' > {QUOTED}", False),
        ("echo 'DONE' >> /w/other.log", False),
        (f"rm x; echo 'DONE' >> {QUOTED}", False),
        (None, False),
    ],
)
def test_a_report_is_one_entry_in_its_own_log_and_no_more_than_that(
    command: str | None, reports: bool
) -> None:
    agent: Any = SimpleNamespace(meta={SETUP: {"logs": [LOG]}}, cwd="/w/it's")
    assert is_report(agent, command) is reports


@pytest.mark.parametrize(
    ("shown", "delivers"),
    [
        ({"path": ".optio/1/deliverables/a/b.txt"}, True),
        ({"changes": [{"path": "/w/.optio/1/deliverables/a.txt"}]}, True),
        ({"path": ".optio/1/deliverables/../optio.log"}, False),
        ({"path": ".optio/1/deliverables/a.txt", "file_path": "/w/code.py"}, False),
        ({"path": ".optio/1/deliverables"}, False),
        ({"path": "/w/.optio/1/deliverables-not/a.txt"}, False),
        ({"path": 7}, False),
        ({}, False),
    ],
)
def test_a_delivery_is_files_of_its_own_and_no_more_than_that(
    shown: dict[str, Any], delivers: bool
) -> None:
    agent: Any = SimpleNamespace(meta={SETUP: {"logs": ["/w/.optio/1/optio.log"]}}, cwd="/w")
    assert bool(delivered_to(agent, shown)) is delivers


def written(office: Office, path: str, text: str = "hello") -> dict[str, Any]:
    return {"write": f"{office.taskdir}/workdir/{path}", "content": text}


UNASKED = ("gemini", "kimi", "opencode", "qwen", "copilot")


@pytest.mark.parametrize("agent", UNASKED)
async def test_a_deliverable_is_written_unasked_and_nothing_else(
    office: Office, agent: str
) -> None:
    asked = list[str]()

    def decide(request: Any) -> PermissionDecision:
        asked.append(str(request.input))
        return ALLOW

    steps: Sequence[dict[str, Any]] = (
        written(office, "deliverables/a.txt"),
        written(office, "deliverables/sub/b.txt"),
        entry(office, "DELIVERABLE: deliverables/a.txt"),
        written(office, "elsewhere.txt"),
        written(office, "deliverables/../up.txt"),
        {"shell": f"ln -s {office.directory} {office.taskdir}/workdir/deliverables/out"},
        written(office, "deliverables/out/c.txt"),
        entry(office, "DONE: all"),
        {"text": "That is all."},
    )
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of(agent, office.directory, model, *steps)
            result = await supervise(host, spec, store=store, on_permission_request=decide)
    assert result.outcome == "done"
    assert [one.path for one in result.deliverables] == ["a.txt"]
    assert [one for one in asked if "a.txt" in one or "b.txt" in one] == []
    for name in "elsewhere.txt", "up.txt", "ln -s":
        assert [one for one in asked if name in one], (name, asked)
    # some refuse by themselves to write behind a link
    assert "c.txt" in str(asked) or not (office.directory / "c.txt").exists()


def test_the_guide_tells_who_writes_deliverables_unasked() -> None:
    lines = GUIDE.read_text().splitlines()
    agents = next(line for line in lines if line.startswith("| |"))
    words = next(line for line in lines if line.startswith("| a file in `deliverables/` |"))
    cells = zip(agents.split("|")[2:-1], words.split("|")[2:-1], strict=True)
    assert tuple(a.strip() for a, word in cells if word.strip() == "unasked") == UNASKED


async def test_a_link_in_deliverables_is_seen_however_deep(office: Office) -> None:
    """Most agents look themselves, and ask for what it leads to."""
    async with office.host() as host:
        await host.setup_workdir()
        out = Path(host.workdir, "deliverables")
        async with agents.start(host, ["sleep", "600"]) as agent:

            async def links() -> bytes:
                return (await agent.query("links", str(out))).strip()

            assert await links() == str(out).encode(), "there is none yet"
            (out / "sub").mkdir(parents=True)
            (out / "a.txt").write_text("hello")
            assert await links() == b""
            (out / "sub/on").symlink_to("/")
            assert await links() == str(out / "sub/on").encode()
            (out / "sub/on").unlink()
            out.rename(out.with_name("elsewhere"))
            out.symlink_to("elsewhere")
            assert await links() == str(out).encode()


async def test_what_codex_leaves_after_an_interrupt_is_ended_with_it(office: Office) -> None:
    begins = f"touch {office.taskdir}/workdir/begun; sleep 4711"

    def sleeping() -> list[Any]:
        return [one for one in tagged(office.tag()) if one.name == "sleep"]

    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model, office.store() as store, office.host() as host:
            spec = spec_of("codex", office.directory, model, {"shell": begins}, {"text": "on"})
            supervising = supervise(host, spec, store=store, on_permission_request=lambda _: ALLOW)
            async with supervising as session:
                while not Path(office.taskdir, "workdir/begun").exists():
                    await anyio.sleep(0.02)
                assert sleeping()
                await session.interrupt()
                while sleeping():
                    await anyio.sleep(0.05)
                await session.send(scripted({"text": "still there"}))
                async for event in session.events():
                    if isinstance(event, happened.TurnEnded) and event.turn.text:
                        break
                await session.stop()
        await no_process_left(office.tag())
