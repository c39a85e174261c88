"""What the journal tells from the command: lists, stories, logs, and clearing up."""

from __future__ import annotations

import json
import re
import resource
import signal
import sqlite3
import subprocess
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import anyio
import click
import coverage
import pytest

from optio_agents.cli.screen.table import table
from optio_agents.cli.verbs.files import hand_over
from optio_agents.conversation.claude.stream_json import ClaudePassages
from optio_agents.hosts import make_host
from optio_agents.supervision.kinds.passages import read_output
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND


def run(desk: Desk, title: str, *steps: str, flags: tuple[str, ...] = ()) -> str:
    """One session, to its end; its id."""
    desk.run("run", "--title", title, *flags, "--", "agent", *steps)
    return str(desk.listed()[-1]["session"])


def test_an_empty_journal_says_how_to_fill_it(desk: Desk) -> None:
    assert desk.run("ls").stdout == "no sessions; `optio-agents demo` makes one\n"
    assert desk.run("ls", "--json").stdout == ""
    ran = desk.run("attach")
    assert (ran.returncode, ran.stderr) == (
        0,
        "no session is open; `optio-agents ls` shows those that ended\n",
    )


def test_a_session_is_listed_told_and_cleared_away(desk: Desk) -> None:
    steps = ("STATUS: 50% half", "write a.txt hello", "DELIVERABLE: a.txt", "hear")
    odd = "an \x1b[31mold\x1b[0m title"
    first = run(desk, odd, *steps, "ERROR: not quite", flags=("--save", "kept"))
    second = run(desk, "second", "DONE: fine")
    rows = desk.run("ls").stdout.splitlines()
    assert rows[0].split() == ["SESSION", "STATE", "DONE", "AGE", "AGENT", "HOST", "LAST", "WORDS"]
    assert re.fullmatch(rf"{first} +error +━━━━····  50% +\d+s +agent +local +not quite", rows[1])
    assert re.fullmatch(rf"{second} +done +━━━━━━━━ 100% +\d+s +agent +local +fine", rows[2])
    story = desk.run("show", first).stdout
    assert story.startswith(f"{first}  an \\x1b[31mold")
    assert "\n  error: not quite\n" in story
    assert re.search(r"began \d{4}-\d\d-\d\d .*, ended \d{4}-", story)
    told = [json.loads(line) for line in desk.run("show", first, "--json").stdout.splitlines()]
    assert [one["kind"] for one in told] == ["session", "delivery"]
    assert re.search(
        r" began .*(\n.*)* done fine\n(.*\n)*.* finished done: fine\n$",
        desk.run("logs", second).stdout,
    )
    pruned = desk.run("prune", "--older-than", "0s", given="n\n")
    assert pruned.returncode == 130
    assert len(desk.listed()) == 2
    assert desk.run("prune", "--older-than", "1h", "--yes").stdout == "nothing to remove\n"
    pruned = desk.run("prune", "--older-than", "0s", given="y\n")
    assert f"{first} removed\n{second} removed\n" in pruned.stdout
    assert desk.listed() == []


def test_a_running_session_is_followed_and_not_cleared_away(desk: Desk) -> None:
    session = run(
        *(desk, "slow", "STATUS: first", desk.hold("go"), "STATUS: last", "DONE"),
        flags=("--detach",),
    )
    assert desk.run("prune", "--older-than", "0s", "--yes").stdout == "nothing to remove\n"
    with desk.running("logs", "-f", session, "--json") as (following, lines):
        desk.release("go")
        assert desk.run("attach", session).returncode == 0
        told = [json.loads(line) for line in lines]
        assert following.wait(BOUND) == 0
    kinds = [one["kind"] for one in told]
    assert [one for one in kinds if one in ("status", "done")] == ["status", "status", "done"]
    assert (kinds[0], kinds.count("began"), kinds[-1]) == ("began", 2, "finished")


def test_an_id_may_be_shortened_as_long_as_it_is_one(desk: Desk) -> None:
    first, second = run(desk, "one", "DONE"), run(desk, "two", "DONE")
    length = next(n for n in range(9) if first[:n] != second[:n])
    assert desk.run("show", first[:length]).stdout.startswith(first)
    if length > 1:
        ran = desk.run("show", first[: length - 1])
        assert (ran.returncode, "say more of it" in ran.stderr) == (2, True)
    completed = desk.run(
        env={
            "_OPTIO_AGENTS_COMPLETE": "bash_complete",
            "COMP_WORDS": f"optio-agents show {first[:length]}",
            "COMP_CWORD": "2",
        }
    )
    assert completed.stdout == f"plain,{first}\n"


def test_a_plain_command_is_spoken_to_and_interrupted_from_elsewhere(desk: Desk) -> None:
    session = run(
        *(desk, "talks", "hear", "run trap 'echo DONE: interrupted >>$OPTIO_LOG' INT"),
        *("STATUS: listening", desk.hold("never")),
        flags=("--detach",),
    )
    sent = desk.run("send", session, "-", given="hello")
    assert sent.stdout.startswith("said, as ")
    with desk.running("attach", session) as (attached, lines):
        assert any("listening" in line for line in lines)
        assert desk.run("interrupt", session).stdout == "interrupted\n"
        assert any("done interrupted" in line for line in lines)
        assert attached.wait(BOUND) == 0
    asked = desk.run("approve", session)
    assert (asked.returncode, "nothing is asked now" in asked.stderr) == (2, True)


def test_a_name_works_wherever_an_id_does_and_is_free_again_at_the_end(desk: Desk) -> None:
    first = run(desk, "one", "DONE: one", flags=("--name", "nightly"))
    second = run(desk, "two", desk.hold("go"), "DONE", flags=("--name", "nightly", "--detach"))
    assert [one["name"] for one in desk.listed()] == ["nightly", "nightly"]
    assert desk.run("show", "nightly").stdout.startswith(second)
    assert desk.run("show", first).stdout.startswith(first)
    ran = desk.run("run", "--name", "nightly", "--", "agent", "DONE")
    assert (ran.returncode, f"session {second} has the name nightly" in ran.stderr) == (2, True)
    assert desk.run("run", "--name", "a b", "--", "agent", "DONE").returncode == 2
    running = desk.run("ls", "--running").stdout.splitlines()
    assert [line.split()[0] for line in running] == ["SESSION", "nightly"]
    assert desk.run("ls", "--waiting").stdout == "none of 2 sessions\n"
    assert desk.run("stop", "nightly").returncode == 0
    assert desk.run("ls", "--running").stdout == "none of 2 sessions\n"


def test_a_thousand_sessions_are_listed_at_once(desk: Desk) -> None:
    run(desk, "the one that is there", "DONE: fine")
    journal = desk.home / ".local/state/optio-agents/journal.sqlite3"
    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 999)"
            " INSERT INTO sessions SELECT printf('%08x', i), created_at - i, host, taskdir, facts,"
            " iif(i > 50, ended_at, NULL), iif(i > 50, outcome, NULL), summary, result, state,"
            " percent FROM n, sessions"
        )
        database.execute(
            "INSERT INTO events (session, number, at, kind, file, generation, offset, line)"
            " SELECT s.id, 1000 + n.i, e.at, 'status', e.file, 1, 100000 + n.i, 'STATUS: more'"
            " FROM sessions s, events e, (SELECT value AS i FROM json_each("
            "'[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')) n WHERE e.kind='done'"
        )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(desk.run("ls").stdout.splitlines()) == 1001
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not coverage.Coverage.current():  # of the processor, which other work does not slow
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_files_are_fetched_when_all_is_over_and_then_removed_alone(desk: Desk) -> None:
    steps = ("write a.txt hello", "DELIVERABLE: deliverables/a.txt", "hear", "run echo b >b.txt")
    session = run(desk, "made", *steps, "DONE: fine", flags=("--name", "made"))
    other = run(desk, "other", "DONE")
    ran = desk.run("fetch", "made", "--to", "results")
    assert (ran.returncode, ran.stdout) == (0, "results/a.txt\n")
    assert (desk.home / "results/a.txt").read_text() == "hello\n"
    assert desk.run("fetch", "made", "b.txt").stdout == "b.txt\n"
    assert (desk.home / "b.txt").read_text() == "b\n"
    for name, told in (
        ("../session/meta", "leads out of"),
        ("/etc/passwd", "leads out of"),
        ("nothing", "nothing"),
    ):
        ran = desk.run("fetch", "made", name)
        assert (ran.returncode, told in ran.stderr) == (2, True), ran.stderr
    ran = desk.run("fetch", other)
    assert (ran.returncode, "no deliverable" in ran.stderr) == (2, True)
    taskdir = Path(desk.listed()[0]["taskdir"].replace("~", str(desk.home)))
    assert desk.run("prune", "made", "--files", "--yes").stdout == f"{session} removed\n"
    assert not taskdir.exists()
    assert desk.run("show", "made").stdout.startswith(session)
    assert desk.run("prune", "made", "--yes").stdout == f"{session} removed\n"
    assert [one["session"] for one in desk.listed()] == [other]


def test_what_changed_since_the_start_is_shown_and_no_program_of_the_tree_runs(
    desk: Desk,
) -> None:
    tree = desk.home / "tree"

    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=e@x")
        subprocess.run(["git", *who, *words], cwd=tree, check=True, env=desk.env)

    tree.mkdir()
    git("init", "-q")
    (tree / "a.txt").write_text("one\n")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    steps = ("run echo two >>a.txt", "run echo new >b.txt", "run git config user.name n")
    more = ("run git config user.email e@x", "run git add a.txt; git commit -qm second")
    evil = (
        "run git config core.fsmonitor 'touch ../evil'",
        "run git config filter.x.clean 'touch ../evil; cat'; echo '* filter=x' >.gitattributes",
        "run git config diff.external 'touch ../evil'",
    )
    time.sleep(1.1)  # git counts in seconds
    session = run(desk, "tree", *steps, *more, *evil, "DONE", flags=("--cwd", "tree"))
    shown = desk.run("diff", session)
    assert shown.returncode == 0, shown.stderr
    assert "+two\n" in shown.stdout
    assert "+new\n" in shown.stdout
    assert ".optio" not in shown.stdout
    assert not (desk.home / "evil").exists()
    other = run(desk, "no tree", "DONE")
    ran = desk.run("diff", other)
    assert (ran.returncode, "is no git tree" in ran.stderr) == (2, True)


def test_a_supervisor_that_stays_owns_what_begins_later(desk: Desk) -> None:
    with desk.running("attach", "--all", "--keep", "--save", "kept", "--json") as (keeping, lines):
        for name in "one", "two":
            steps = (f"write {name}.txt hello", f"DELIVERABLE: deliverables/{name}.txt", "hear")
            run(desk, name, *steps, desk.hold(name), "DONE", flags=("--detach",))
            assert any(one["kind"] == "delivery" and one["saved"] for one in map(json.loads, lines))
            desk.release(name)
            assert any(one["kind"] == "finished" for one in map(json.loads, lines))
        keeping.send_signal(signal.SIGTERM)
        assert keeping.wait(BOUND) == 0
    assert {path.name for path in (desk.home / "kept").iterdir()} == {"one.txt", "two.txt"}
    assert desk.run("attach", "--keep", "abc").returncode == 2


def test_what_was_said_is_printed_in_each_format_and_harms_none(desk: Desk) -> None:
    text = {"type": "text", "text": "I <b>will</b> \x1b[2J look"}
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": "```\na.txt"}]}
    events = (
        {"type": "system", "subtype": "init"},
        {"type": "user", "message": {"content": "Fix it"}},
        {"type": "assistant", "message": {"content": [text, tool]}},
        {"type": "user", "message": {"content": [result]}},
        {"type": "result", "subtype": "success", "total_cost_usd": 0.25},
    )
    written = "".join(json.dumps(event) + "\n" for event in events)
    (desk.home / "events").write_text(f"{written}plain words\n")
    session = run(desk, "a <title>", f"run cat '{desk.home}/events'", "DONE")
    lines = desk.run("transcript", session, "--format", "json").stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [(one["who"], one["text"]) for one in told] == [
        ("person", "Fix it"),
        ("agent", text["text"]),
        ("tool", "Bash: ls"),
        ("result", "```\na.txt"),
        ("turn", "success, $0.2500 so far"),
        ("output", "plain words"),
    ]
    plain = desk.run("transcript", session).stdout
    assert r"agent    I <b>will</b> \x1b[2J look" in plain
    assert "result   ```\n         a.txt\n" in plain
    page = desk.run("transcript", session, "--format", "html").stdout
    assert "I &lt;b&gt;will&lt;/b&gt; " in page
    assert f"<title>{session} a &lt;title&gt;</title>" in page
    marked = desk.run("transcript", session, "--format", "markdown").stdout
    assert "> Fix it\n" in marked
    assert "````result\n```\na.txt\n````\n" in marked


def test_a_long_transcript_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    event = {"type": "assistant", "message": {"content": [{"type": "text", "text": "x" * 10_000}]}}
    path = tmp_path / "output"
    with path.open("wb") as output:
        for _ in range(2000):  # 20 MB
            output.write(json.dumps(event).encode() + b"\n")
    tracemalloc.start()
    try:
        with path.open("rb") as output:
            assert sum(1 for _ in read_output(output, ClaudePassages())) == 2000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


async def test_a_file_is_put_where_the_agent_works_and_nowhere_else(desk: Desk) -> None:
    (desk.home / "n.md").write_text("note")
    (desk.home / "elsewhere").mkdir()
    waits = "until [ -s uploads/n.md ]; do sleep 0.05; done; cp uploads/n.md got"
    waits += (
        f"; rm -r uploads; ln -s {desk.home}/elsewhere uploads; until [ -e end ]; do sleep 0.05"
    )
    program = ("sh", "-c", f"{waits}; done; echo DONE >> optio.log")
    assert (await desk.runs("run", "--detach", "--name", "n", "--", *program)).returncode == 0
    put = await desk.runs("put", "n", "n.md")
    assert put.stdout.endswith("/workdir/uploads/n.md\n"), put.stderr
    workdir = Path(put.stdout).parents[1]
    with anyio.fail_after(BOUND):
        while not (workdir / "uploads").is_symlink():  # noqa: ASYNC110 - files send no events
            await anyio.sleep(0.05)
    assert (workdir / "got").read_text() == "note"
    again = await desk.runs("put", "n", "n.md")
    assert "leaves the work directory over a link" in again.stderr
    assert list((desk.home / "elsewhere").iterdir()) == []
    refused = await desk.runs("set", "n", "model=opus")
    assert "nothing can be set of this agent" in refused.stderr
    assert (await desk.runs("set", "n", "model")).returncode == 2
    (workdir / "end").touch()
    assert (await desk.runs("attach", "n")).returncode == 0
    assert "is over" in (await desk.runs("put", "n", "n.md")).stderr


async def test_what_is_handed_over_follows_no_link_in_front_of_the_log_either(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".optio").symlink_to(tmp_path / "elsewhere")
    async with make_host(None, taskdir=f"{tmp_path}/task", workdir=f"{tmp_path}/project") as host:
        with pytest.raises(ValueError, match="leaves the work directory over a link"):
            await hand_over(host, b"note", "uploads/n.md")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_transcript_shows_no_credential_while_anybody_knows_it(desk: Desk) -> None:
    env = {"MY_TOKEN": "hunter2-hunter2"}
    steps = "run echo the token is $MY_TOKEN", "hear", "DONE"
    flags = "run", "--detach", "--name", "it", "--env", "MY_TOKEN", "--"
    assert desk.run(*flags, "agent", *steps, env=env).returncode == 0
    shown = desk.run("transcript", "it")
    assert ("the token is [MY_TOKEN]" in shown.stdout, shown.stderr) == (True, "")
    desk.run("send", "it", "go on")
    assert desk.run("attach", "it").returncode == 0
    assert "nobody knows these any more, so they may stand here: MY_TOKEN" in (
        desk.run("transcript", "it").stderr
    )


def test_what_a_host_says_of_what_cannot_be_removed_is_shown_and_not_obeyed(desk: Desk) -> None:
    home = desk.home / "odd \x1b[2J"
    home.mkdir()
    desk.env["HOME"] = str(home)
    session = run(desk, "one", "DONE")
    (task,) = home.glob("**/tasks/*")
    (task / ".optio-task").unlink()  # as if it were another's
    pruned = desk.run("prune", session, "--yes").stdout
    assert pruned.startswith(f"{session} kept: ")
    assert r"odd \x1b[2J" in pruned
    assert "\x1b" not in pruned


def test_what_waits_is_told_whole_where_a_program_reads() -> None:
    waits = "unattended, 3 min ago: waits for you: Bash `rm -rf build`"
    row = {"session": "s1", "state": waits, "at": 0, "over": False, "waits": True, "host": "box"}
    assert waits in click.unstyle(table([{**row, "outcome": None}])[1])
