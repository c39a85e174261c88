"""What the journal tells from the command: lists, stories, logs, and clearing up."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.support.terminal import Desk


def run(desk: Desk, title: str, *steps: str, flags: tuple[str, ...] = ()) -> str:
    """One session, to its end; its id."""
    desk.run("run", "--title", title, *flags, "--", "agent", *steps)
    return str(listed(desk)[-1]["session"])


def listed(desk: Desk) -> list[dict[str, Any]]:
    return [json.loads(line) for line in desk.run("ls", "--json").stdout.splitlines()]


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
    assert re.fullmatch(rf"{first} +error +\d+s +local +an \\x1b\[31mold.*", rows[0])
    assert re.fullmatch(rf"{second} +done +\d+s +local +second", rows[1])
    story = desk.run("show", first).stdout
    assert story.startswith(f"{first}  an \\x1b[31mold")
    assert "\n  error: not quite\n" in story
    assert re.search(r"began \d{4}-\d\d-\d\d .*, ended \d{4}-", story)
    told = [json.loads(line) for line in desk.run("show", first, "--json").stdout.splitlines()]
    assert [one["kind"] for one in told] == ["session", "delivery"]
    assert desk.run("logs", second).stdout.endswith(" done fine\n")
    pruned = desk.run("prune", "--older-than", "0s", given="n\n")
    assert pruned.returncode == 130
    assert len(listed(desk)) == 2
    assert desk.run("prune", "--older-than", "1h", "--yes").stdout == "nothing to remove\n"
    pruned = desk.run("prune", "--older-than", "0s", given="y\n")
    assert f"{first} removed\n{second} removed\n" in pruned.stdout
    assert listed(desk) == []


def test_a_running_session_is_followed_and_not_cleared_away(desk: Desk) -> None:
    session = run(
        *(desk, "slow", "STATUS: first", desk.hold("go"), "STATUS: last", "DONE"),
        flags=("--detach",),
    )
    assert desk.run("prune", "--older-than", "0s", "--yes").stdout == "nothing to remove\n"
    argv = ["optio-agents", "logs", "-f", session, "--json"]
    with subprocess.Popen(
        argv, env=desk.env, cwd=desk.home, text=True, stdout=subprocess.PIPE
    ) as following:
        assert following.stdout
        desk.release("go")
        assert desk.run("attach", session).returncode == 0
        told = [json.loads(line) for line in following.stdout]
        assert following.wait(10) == 0
    assert [one["kind"] for one in told] == ["status", "status", "done"]


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
    argv = ["optio-agents", "attach", session]
    with subprocess.Popen(
        argv, env=desk.env, cwd=desk.home, text=True, stdout=subprocess.PIPE
    ) as attached:
        assert attached.stdout
        assert any("listening" in line for line in attached.stdout)
        assert desk.run("interrupt", session).stdout == "interrupted\n"
        assert any("done interrupted" in line for line in attached.stdout)
        assert attached.wait(20) == 0
    asked = desk.run("approve", session)
    assert (asked.returncode, "nothing is asked now" in asked.stderr) == (2, True)
