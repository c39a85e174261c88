"""What programs, and the page, get and do over HTTP."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.cli.output import as_json
from optio_agents.cli.screen.records import of_session, records_of
from optio_agents.store import Store
from optio_agents.store.records import SessionResult, SessionState
from optio_agents.supervision import MessageSent, Notice, SessionEnded, supervise
from optio_agents.supervision.events import event_of, recordable
from optio_agents.team import Team, human, model, tool
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.scripted_model import scripted_model
from optio_agents.web import streams
from tests.supervision.test_supervise_claude import bash, claude
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND
from tests.web.crowds import crowd
from tests.web.serving import command, visiting

# ruff: noqa: ASYNC240, SIM117  # nobody else needs the loop; a block in a block is meant


async def run_to_its_end(office: Office, store: Store, *steps: str, **more: Any) -> str:
    async with office.host() as host:
        result = await supervise(host, command(*steps), store=store, **more)
    return result.session


async def test_sessions_are_listed_as_the_command_lists_them(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        assert (await visitor.get("/api/sessions"))["sessions"] == []
        session = await run_to_its_end(office, store, "STATUS: 50% half", "DONE: all", name="mine")
        with anyio.fail_after(BOUND):
            await visitor.until(
                "/api/sessions/events",
                lambda one: [row for row in one.data.get("sessions", ()) if row["over"]],
            )
        (row,) = (await visitor.get("/api/sessions"))["sessions"]
        last = (await store.last_words())[session]
        assert row == json.loads(as_json(of_session(await store.session(session), last)))
        assert await visitor.get("/api/sessions/mine") == row
        assert await visitor.get(f"/api/sessions/{session[:6]}") == row
        missing = await visitor.get("/api/sessions/none", status=404)
        assert "no session 'none'" in missing["error"]


async def test_the_list_is_live_and_a_link_that_was_cut_misses_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.web.hub.SLOWLY", 0.1)
    async with office.store() as store, visiting(store) as visitor:
        crowd(store.path, 3)
        with anyio.fail_after(BOUND):
            async with visitor.stream("/api/sessions/events") as messages:
                assert (await anext(messages)).event == "all"
                known = dict[str, Any]()
                while len(known) < 3:
                    first = await anext(messages)
                    known |= {row["session"]: row for row in first.data["sessions"]}
            await store.forget("s000000")
            session = await run_to_its_end(office, store, "DONE: all")
            rows, gone = dict[str, Any](), list[str]()
            async with visitor.stream("/api/sessions/events", first.id) as messages:
                async for one in messages:
                    assert one.event == "message"
                    rows |= {row["session"]: row for row in one.data["sessions"]}
                    gone += one.data["gone"]
                    if gone and rows.get(session, {}).get("over"):
                        break
        assert (set(rows), gone) == ({session}, ["s000000"])
        # a place of another process is none
        assert (await visitor.until("/api/sessions/events?after=abcd-5", bool)).event == "all"


async def test_an_owner_that_was_killed_is_noticed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.web.hub.SLOWLY", 0.1)
    async with office.store() as store:
        crowd(store.path, 1, over=False)
        with ExitStack() as owning:
            owning.enter_context(store.claim("s000000", "somebody"))
            async with visiting(store) as visitor:
                assert (await visitor.get("/api/sessions/s000000"))["state"] == "working"
                owning.close()  # no more than its end tells
                with anyio.fail_after(BOUND):
                    await visitor.until(
                        "/api/sessions/events", lambda one: "unattended" in str(one.data)
                    )


async def test_events_are_the_records_of_logs_by_their_numbers(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        odd = "STATUS: 5% <script>alert(1)</script> \u202e\x1b[31m"
        session = await run_to_its_end(office, store, odd, "STATUS: 90% on", "DONE: all")
        with anyio.fail_after(BOUND):
            told = await visitor.read(f"/api/sessions/{session}/events")
            behind = await visitor.read(f"/api/sessions/{session}/events?after=3")
            resumed = await visitor.read(f"/api/sessions/{session}/events", "3")
    async with office.store() as store:
        events = [event_of(row) for row in await store.events(session)]
    wanted = [json.loads(as_json(r)) for event in events for r in records_of(event, session)]
    records = [one.data for one in told if one.event == "message"]
    assert [
        {n: one[n] for n in one if n in want} for one, want in zip(records, wanted, strict=True)
    ] == (wanted)
    assert [one.id for one in told if one.event == "message"] == [
        str(n) for n in range(1, len(wanted) + 1)
    ]
    assert told[-1].event == "over"
    assert [one.data for one in behind if one.event == "message"] == records[3:]
    assert behind == resumed
    (line,) = [one["words"] for one in records if "script" in one.get("words", "")]
    assert line == "5% <script>alert(1)</script> \\u202e\\x1b[31m"


async def test_events_come_while_they_happen(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor, office.host() as host:
        with anyio.fail_after(BOUND):
            async with supervise(
                host, command("hear", "STATUS: on", "DONE"), store=store
            ) as session:
                await session.read_requests()  # its agent is there
                async with visitor.stream(f"/api/sessions/{session.id}/events") as messages:
                    kinds = list[str]()
                    async for one in messages:
                        kinds.append(one.data.get("kind", one.event))
                        if one.data.get("kind") == "began":
                            await visitor.post(f"/api/sessions/{session.id}/send", {"text": "go"})
                await session.result()
    assert "sent" in kinds
    assert [kind for kind in kinds if kind in ("began", "status", "done", "finished")] == [
        *("began", "status", "done", "finished")
    ]
    assert kinds[-1] == "over"


async def test_a_stream_goes_on_while_the_owner_of_a_session_ends_it(office: Office) -> None:
    """How it ends is recorded first; that is its last event when the agent is gone, too."""
    async with office.store() as store, visiting(store) as visitor:
        crowd(store.path, 1, over=False)
        journal, result = store.journal("s000000"), SessionResult("s000000", "done", "all", 1, 2)
        with anyio.fail_after(BOUND), store.claim("s000000", "somebody"):
            async with visitor.stream("/api/sessions/s000000/events") as messages:
                kinds, steps = list[str](), ["end", "finish"]
                async for one in messages:
                    kinds.append(one.data.get("kind", one.event))
                    if kinds[-1] == "session" and steps[:1] == ["end"]:
                        await journal.end(result)
                        await journal.append(recordable(Notice("it is ended"), 2.0))
                        steps.remove("end")
                    elif kinds[-1] == "session" and one.data["over"] and steps:
                        await journal.finish(result, SessionState("over", "done"))
                        steps.clear()
    assert [kind for kind in kinds if kind != "session"] == [
        *("status", "status", "status", "notice", "finished", "over")
    ]


async def test_silence_is_broken(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT", 0.05)
    async with office.store() as store, visiting(store) as visitor:
        crowd(store.path, 1, over=False)
        with anyio.fail_after(BOUND):
            for path in "/api/sessions/events", "/api/sessions/s000000/events":
                await visitor.until(path, lambda one: one.event == "beat")


async def test_a_long_record_comes_without_its_longest_value(office: Office) -> None:
    record = {"kind": "permission", "input": {"command": "x" * 200_000}, "words": "y", "number": 3}
    assert json.loads(streams.line(record)) == {
        "kind": "permission",
        "words": "y",
        "number": 3,
        "cut": len(as_json(record)),
    }


# Acting


@pytest.mark.parametrize("key", ["", "once"])
async def test_what_bears_one_key_is_said_once(office: Office, key: str) -> None:
    steps = ("hear", "STATUS: heard one", "hear", "DONE")
    async with office.store() as store, visiting(store) as visitor, office.host() as host:
        with anyio.fail_after(BOUND):
            async with supervise(host, command(*steps), store=store) as session:
                await session.read_requests()  # its agent is there
                send = f"/api/sessions/{session.id}/send"
                first = await visitor.post(send, {"text": "one"}, key)
                assert first["receipt"] == "kept"
                again = await visitor.post(send, {"text": "one"}, key)
                assert (again["name"] == first["name"]) == bool(key)
                if key:
                    refused = await visitor.post(send, {"text": "two"}, key, status=422)
                    assert "another request" in refused["error"]
                    async with visiting(store) as restarted:  # knows no keys, and the host does
                        name = (await restarted.post(send, {"text": "one"}, key))["name"]
                    assert name == first["name"]
                    await visitor.post(send, {"text": "two"})
                await session.result()
                taken = await visitor.get(f"/api/sessions/{session.id}/taken")
                assert first["name"] in taken["taken"]
    assert office.heard() == ["heard: one", "heard: two" if key else "heard: one"]


async def test_each_verb_says_what_became_of_it(office: Office) -> None:
    steps = ("run trap 'echo STATUS: interrupted >>$OPTIO_LOG' INT", "hear", "run sleep 1000")
    async with office.store() as store, visiting(store) as visitor, office.host() as host:
        with anyio.fail_after(BOUND):
            async with supervise(host, command(*steps), store=store) as session:
                await session.read_requests()  # its agent is there
                path = f"/api/sessions/{session.id}"
                steered = await visitor.post(f"{path}/steer", {"text": "on"}, status=409)
                assert "no turns to be steered" in steered["error"]
                sent = await visitor.post(f"{path}/send", {"text": "this way", "by": "bob"})
                assert sent["receipt"] == "kept"
                gone = await visitor.post(f"{path}/interrupt", {"by": "ana\x1b[0m"})
                assert gone["receipt"] == "interrupted"
                assert (await visitor.post(f"{path}/answer", {"request": "r"}, status=422))["error"]
                asked = {"request": "r", "digest": "d", "behavior": "allow"}
                late = await visitor.post(f"{path}/answer", asked, status=409)
                assert "not open any more" in late["error"]
                assert (await visitor.post(f"{path}/send", {"text": " "}, status=422))["error"]
                assert (await visitor.post(f"{path}/sing", {}, status=404))["error"]
                assert (await visitor.post(f"{path}/stop", {}))["receipt"] == "stopped"
                with pytest.raises(Exception, match="agent"):
                    await session.result()
            events = [event_of(row) for row in await store.events(session.id)]
    assert [one.by[:9] for one in events if isinstance(one, MessageSent)] == ["bob (page"]
    texts = [getattr(one, "text", "") for one in events]
    assert any(text.startswith("ana\\x1b[0m (page on ") for text in texts)
    assert isinstance(events[-1], SessionEnded)


async def test_a_file_is_handed_over_whole_and_nowhere_else(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor, office.host() as host:
        with anyio.fail_after(BOUND):
            async with supervise(host, command("hear", "DONE"), store=store) as session:
                await session.read_requests()  # its agent is there
                put = f"/api/sessions/{session.id}/put?name="
                answer = await visitor.http.post(f"{put}my%20notes.txt", content=b"hello" * 100_000)
                path = Path(answer.json()["path"])
                assert path == Path(office.taskdir, "workdir/attached/my notes.txt")
                assert path.read_bytes() == b"hello" * 100_000
                for name in "..", "", "a/b", "%2e%2e/x", "a%00b", "x" * 300:
                    assert (await visitor.http.post(put + name, content=b"x")).status_code == 422
                (path.parent).rename(path.parent.with_name("elsewhere"))
                (path.parent).symlink_to(office.directory)
                answer = await visitor.http.post(f"{put}new", content=b"x")
                assert (answer.status_code, "over a link" in answer.text) == (409, True)
                assert not (office.directory / "new").exists()
                await visitor.post(f"/api/sessions/{session.id}/send", {"text": "go"})
                await session.result()


async def test_a_request_is_decided_as_it_was_shown_and_by_the_first(office: Office) -> None:
    step = {
        "tool": "Write",
        "input": {"file_path": f"{office.taskdir}/workdir/made", "content": "hi"},
    }
    ends = bash("echo DONE >> optio.log"), {"text": "That is all."}
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            office.store() as store,
            visiting(store) as visitor,
        ):
            async with office.host() as host:
                spec = claude(office.directory, api, step, *ends)
                async with supervise(host, spec, store=store) as session:
                    path = f"/api/sessions/{session.id}"
                    await visitor.until(
                        f"{path}/events", lambda one: one.data.get("kind") == "permission"
                    )
                    (asked,) = (await visitor.get(f"{path}/requests"))["requests"]
                    assert f"{office.taskdir}/workdir/made:\nhi" in asked["body"]
                    assert (asked["tool"], asked["readable"]) == ("Write", True)
                    given = {"request": asked["request"], "digest": asked["digest"], "by": "ana"}
                    wrong = {**given, "digest": "0" * 16, "behavior": "allow"}
                    refused = await visitor.post(f"{path}/answer", wrong, status=409)
                    assert "not what was shown" in refused["error"]
                    answers = list[dict[str, Any]]()

                    async def decide(name: str, behavior: str) -> None:
                        said = {**given, "by": name, "behavior": behavior}
                        answers.append(await visitor.post(f"{path}/answer", said))

                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(decide, "ana", "allow")
                        tasks.start_soon(decide, "bob", "allow")
                    won, late = sorted(answers, key=lambda one: one["receipt"])
                    assert (won["receipt"], late["receipt"]) == ("allow", "late")
                    assert won["by"] == late["by"]
                    assert (await session.result()).outcome == "done"
            told = await visitor.read(f"{path}/conversation")
            passages = [p for one in told for p in one.data.get("passages", ())]
            (write,) = [
                p for p in passages if p["who"] == "tool" and p["words"].startswith("Write")
            ]
            assert write["change"] == "+hi"
            resumed = await visitor.read(f"{path}/conversation", told[-2].id)
            assert [one.event for one in resumed] == ["reached", "over"]
    assert Path(office.taskdir, "workdir/made").read_text() == "hi"


# What lies on hosts


PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


async def test_what_it_made_is_shown_and_taken_away(office: Office, tmp_path: Path) -> None:
    steps = (
        *("write deliverables/a.md # Hello", "DELIVERABLE: deliverables/a.md", "hear"),
        *("write deliverables/x.svg <svg>", "DELIVERABLE: deliverables/x.svg", "hear"),
        "run printf '\\211PNG\\r\\n\\032\\n0000' >deliverables/b.png",
        *("DELIVERABLE: deliverables/b.png", "hear", "DONE"),
    )
    kept = tmp_path / "kept"
    async with office.store() as store, visiting(store) as visitor:
        session = await run_to_its_end(office, store, *steps, save_deliverables_to=kept)
        path = f"/api/sessions/{session}"
        found = (await visitor.get(f"{path}/deliverables"))["deliverables"]
        assert [one["path"] for one in found] == ["a.md", "x.svg", "b.png"]
        text = await visitor.get(f"{path}/text/a.md")
        assert (text["text"].strip(), text["picture"], text["cut"]) == ("# Hello", False, False)
        assert (await visitor.get(f"{path}/text/b.png"))["picture"]
        for name, kind in ("x.svg", "application/octet-stream"), ("b.png", "image/png"):
            answer = await visitor.http.get(f"{path}/deliverables/{name}")
            assert answer.headers["content-type"] == kind
            assert answer.headers["content-disposition"].startswith("attachment;")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
        for name in "optio.log", "../optio.log", "none":
            assert (await visitor.http.get(f"{path}/deliverables/{name}")).status_code == 404
        (kept / session / "a.md").unlink() if (kept / session).exists() else (
            kept / "a.md"
        ).unlink()
        answer = await visitor.http.get(f"{path}/deliverables/a.md")  # its host still has it
        assert answer.text.strip() == "# Hello"


async def test_the_conversation_of_a_program_is_what_it_prints_without_secrets(
    office: Office,
) -> None:
    async with office.store() as store, visiting(store) as visitor, office.host() as host:
        long = "run head -c 5000000 /dev/zero | tr '\\0' x; echo"
        spec = command("say <b>bold</b>", "run echo $A_TOKEN", long, "hear", "DONE")
        spec = replace(spec, env={**spec.env, "A_TOKEN": "geheim-geheim"})
        words, old = list[str](), list[bool]()
        with anyio.fail_after(BOUND):
            async with supervise(host, spec, store=store) as session:
                await session.read_requests()
                async with visitor.stream(f"/api/sessions/{session.id}/conversation") as told:
                    async for one in told:
                        words += [p["words"] for p in one.data.get("passages", ())]
                        old += ["old" in p for p in one.data.get("passages", ())]
                        if len(words) == 3:
                            await session.send("go")
                await session.result()
    assert (old[0], old[3]) == (True, False)  # the first was there when somebody came to look
    assert words[:2] == ["<b>bold</b>", "[A_TOKEN]"]
    assert (len(words[2]), words[2][:3], words[2][-1]) == (20_000, "xxx", "…")
    assert (words[3:], one.event) == (["heard: go"], "over")


async def test_what_cannot_be_read_is_told(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        crowd(store.path, 1)
        with anyio.fail_after(BOUND):
            (trouble,) = await visitor.read("/api/sessions/s000000/conversation")
            assert (trouble.event, bool(trouble.data["text"])) == ("trouble", True)
            assert (await visitor.get("/api/sessions/s000000/changes", status=409))["error"]


async def test_the_guide_is_there(office: Office) -> None:
    async with office.store() as store, visiting(store) as visitor:
        pages = (await visitor.get("/api/guide"))["pages"]
        assert {"page": "page", "title": "The page"} in pages
        assert (await visitor.get("/api/guide/trust"))["text"].startswith("# Trust\n")
        await visitor.get("/api/guide/..%2f..%2fpyproject", status=404)


async def test_turns_of_a_team_are_a_tree_that_grows(office: Office) -> None:
    async def scout(ctx: Any) -> str:
        await ctx.receive()
        return f"found {ctx.text}"

    async def research(ctx: Any) -> str:
        return str(await ctx.call("scout", "tea", id="below"))

    async with office.store() as store, visiting(store) as visitor:
        people = {"research": research, "scout": scout}
        with anyio.fail_after(BOUND):
            async with Team(people, store=store) as team:
                turn = team.call("research", "books", id="top")
                states = list[tuple[str, str]]()
                async with visitor.stream("/api/turns/team/top") as messages:
                    async for one in messages:
                        rows = one.data.get("turns", ())
                        states += [(row["turn"], row["state"]) for row in rows]
                        if ("below", "running") in states and not turn.over:
                            await team.send("below", "go on", id="once")
                        last = one
                assert str(await turn) == "found tea"
        assert last.event == "over"
        assert {("top", "completed"), ("below", "running"), ("below", "completed")} <= set(states)
        (root,) = (await visitor.get("/api/turns"))["turns"]
        assert (root["turn"], root["asked"], root["said"]) == ("top", "books", "found tea")


async def test_what_a_turn_has_used_is_seen_while_it_runs(office: Office) -> None:
    seen = anyio.Event()

    @tool
    async def look() -> str:
        """Look."""
        await seen.wait()
        return "looked"

    async with (
        scripted_model({"call": "look", "arguments": {}}, "well") as api,
        office.store() as store,
        visiting(store) as visitor,
    ):
        boss = model("openai-chat:m", base_url=api.url, credential="none", tools=[look])
        with anyio.fail_after(BOUND):
            async with Team({"boss": boss}, store=store) as team:
                turn = team.call("boss", "go", id="top")
                async with visitor.stream("/api/turns/team/top") as messages:
                    async for one in messages:
                        for row in one.data.get("turns", ()):
                            if row["used"] and not seen.is_set():
                                assert row["used"] == {"steps": 1, "tokens": 15}
                                seen.set()
                            last = row
                assert str(await turn) == "well"
    assert (last["over"], last["used"]["tokens"]) == (True, 30)


async def test_a_person_of_a_team_answers_once(office: Office) -> None:
    async def release(ctx: Any) -> str:
        return f"{await ctx.call('ana', 'Ship <b>it</b>?')}, she says"

    async with office.store() as store, visiting(store) as visitor:
        with anyio.fail_after(BOUND):
            people = {"release": release, "ana": human(show=lambda _: None, read=wait_for_ever)}
            async with Team(people, store=store) as team:
                turn = team.call("release", id="top")
                while not (asked := (await visitor.get("/api/questions"))["questions"]):  # noqa: ASYNC110
                    await anyio.sleep(0.02)
                (one,) = asked
                assert (one["name"], one["sender"], one["words"]) == (
                    *("ana", "release", "Ship <b>it</b>?"),
                )
                path = f"/api/turns/{one['team']}/{one['turn']}/answer"
                await visitor.post(path, {"text": " ", "number": 0}, status=422)
                given = {"text": "ship it", "number": one["number"], "by": "bob"}
                assert (await visitor.post(path, given))["receipt"] == "answered"
                assert (await visitor.post(path, given | {"text": "no"}))["receipt"] == "late"
                assert str(await turn) == "ship it, she says"


async def wait_for_ever() -> str:
    await anyio.sleep_forever()
    return ""


async def test_nothing_is_left_behind(office: Office, leaks: Any) -> None:
    async with office.store() as store:
        crowd(store.path, 2, over=False)
        await store.sessions()
        async with leaks():
            async with visiting(store) as visitor:
                async with visitor.stream("/api/sessions/s000000/events") as messages:
                    assert await anext(messages)
