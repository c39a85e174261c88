"""The command in a real terminal: what a person sees, and what their keys do."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.proc import running, unique
from tests.support.terminal import Desk, Terminal, agent

OWNED = "(?!.*unattended).*"  # in a line: we have taken it up
ASKS = r"y allow · (a always \(until this session ends\) · )?n deny"


async def session_id(desk: Desk) -> str:
    """The id of the one session."""
    listed = (await desk.runs("ls", "--json")).stdout.splitlines()
    return str(json.loads(listed[-1])["session"])


async def leave(terminal: Terminal) -> None:
    """Ctrl-C twice; two that come before the first is seen are one signal."""
    await terminal.key("C-c")
    await terminal.until("Ctrl-C again")
    await terminal.key("C-c")


# The live view


async def test_the_demo_ends_with_its_files_on_disk(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.type('clear; optio-agents demo; echo "exit $?"')
        await terminal.until(r"^demo +[━╺╸]+ +15% +0:0\d working")
        await terminal.ends(0)
        screen = await terminal.screen()
    assert re.search(r"^demo +━+ 100% +0:\d\d done", screen, re.MULTILINE)
    assert "It has no end." in screen
    kept = {path.name: path.stat().st_size for path in (desk.home / "optio-demo").iterdir()}
    assert kept.keys() == {"poem.md", "poem-2.md", "silence.wav"}
    assert kept["silence.wav"] == 65_536


async def test_a_session_is_one_line_at_any_width(desk: Desk) -> None:
    title = "a title that is much longer than any terminal is wide " * 3
    run = agent("STATUS: 42% half", desk.hold("go"), "DONE", flags=f"--title '{title}'")
    async with desk.terminal(80, 24) as terminal:
        await terminal.type(run)
        await terminal.until(r"^a title.*… +[━╺╸]+ +42% +0:0\d working *$")
        await terminal.resize(50, 20)
        await terminal.until(r"^a title.*… +[━╺╸]+ +42% +0:\d\d working *$")
        await terminal.resize(120, 30)
        wide = r"^a title that is much longer.*… +[━╺╸]+ +42% +0:\d\d working *$"
        await terminal.until(wide)
        desk.release("go")
        await terminal.ends(0)


async def test_what_an_agent_says_cannot_act_on_the_terminal(desk: Desk) -> None:
    steps = (
        "STATUS: 10% [bold red]not markup[/]",
        'run printf "\\033[2J\\033]0;x\\007\\n" >>$OPTIO_LOG',
    )
    async with desk.terminal() as terminal:
        await terminal.type(agent(*steps, "DONE"))
        seen = await terminal.ends(0)
    assert "10% [bold red]not markup[/]" in seen
    assert r"\x1b[2J\x1b]0;x\x07" in seen


async def test_what_an_agent_says_forges_no_line(desk: Desk) -> None:
    forged = f"STATUS: {'a' * 50} 12:00:00 done         all of it"
    tower = "STATUS: e" + "\u0301" * 500
    for width in 80, 40:
        async with desk.terminal(width) as terminal:
            await terminal.type(agent(forged, tower, "ERROR: no"))
            seen = await terminal.ends(1)
        assert "12:00:00 done" in seen
        assert not re.search("^12:00:00 done", seen, re.MULTILINE)
        assert "\u0301" * 5 not in seen
        assert r"\u0301\u0301" in seen


@pytest.mark.parametrize(("variable", "colourful"), [("COLOURS", True), ("NO_COLOR", False)])
async def test_colours_are_left_out_on_demand(desk: Desk, variable: str, colourful: bool) -> None:
    async with desk.terminal(**{variable: "1"}) as terminal:
        await terminal.type(agent("STATUS: 50% half", "DONE: all"))
        await terminal.ends(0)
        assert bool(re.search(r"\x1b\[[0-9;]*3[1-6]m", await terminal.colours())) == colourful


async def test_a_dumb_terminal_gets_plain_lines(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.type(f"export TERM=dumb; {agent('STATUS: 50% half', 'DONE: all')}")
        seen = await terminal.ends(0)
    assert re.search(r"^\d\d:\d\d:\d\d status 50% half$", seen, re.MULTILINE)
    assert "━" not in seen


async def test_whoever_reads_a_few_lines_only_leaves_the_agent_running(desk: Desk) -> None:
    steps = ("STATUS: one", "STATUS: two", "STATUS: three", desk.hold("go"), "DONE: all")
    async with desk.terminal(120) as terminal:
        run = agent(*steps).replace("; echo", " | head -n 2; echo")
        await terminal.type(run)
        seen = await terminal.ends(0)
        assert "Traceback" not in seen
        assert "BrokenPipe" not in seen
        desk.release("go")
        found = re.search(r"optio-agents attach (\w+)", await terminal.until("optio-agents attach"))
        assert found
        assert (await desk.runs("attach", found[1])).returncode == 0


# Ctrl-C


async def test_ctrl_c_once_interrupts_a_command(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.type(agent("STATUS: 10% on it", "sleep 600"))
        await terminal.until("status +10% on it")
        await terminal.key("C-c")
        seen = await terminal.ends(3)
    assert "interrupting; Ctrl-C again leaves, and the agent goes on" in seen
    assert "without DONE" in seen


async def test_ctrl_c_twice_leaves_the_agent_and_says_how_to_come_back(desk: Desk) -> None:
    steps = ("run trap '' INT", "STATUS: 10% on it", desk.hold("go"), "DONE: after all")
    async with desk.terminal() as terminal:
        await terminal.type(agent(*steps))
        await terminal.until("status +10% on it")
        await leave(terminal)
        seen = await terminal.ends(6)
        found = re.search(r"come back with: optio-agents attach (\w+)", seen.replace("\n", " "))
        assert found
        await terminal.type(f'clear; optio-agents attach {found[1]}; echo "exit $?"')
        await terminal.until(r"^t +[━╺╸]+ .*working")
        desk.release("go")
        assert "after all" in await terminal.ends(0)


async def test_stop_on_exit_ends_the_agent_and_all_it_started(desk: Desk) -> None:
    n = unique()
    nap = desk.program("nap", f"exec sleep {n}\n")
    steps = ("run trap '' INT", f"run {nap} &", "STATUS: 10% on it", "sleep 600")
    async with desk.terminal() as terminal:
        await terminal.type(agent(*steps, flags="--stop-on-exit"))
        await terminal.until("status +10% on it")
        await leave(terminal)
        seen = await terminal.ends(130)
    assert "Ctrl-C again stops the agent" in seen
    assert "come back" not in seen
    assert not running(n)


async def test_a_third_ctrl_c_does_not_cut_the_end_short(desk: Desk) -> None:
    stubborn = "run trap '' INT TERM"
    async with desk.terminal() as terminal:
        await terminal.type(
            agent(stubborn, "STATUS: 10% on it", "sleep 66", flags="--stop-on-exit")
        )
        await terminal.until("status +10% on it")
        await leave(terminal)
        while "leaving; this takes a moment" not in await terminal.all():
            await terminal.key("C-c")
        await terminal.key("C-c")
        seen = await terminal.ends(130)
    assert "Traceback" not in seen
    listed = json.loads((await desk.runs("ls", "--json")).stdout)
    assert listed["outcome"] == "cancelled"


async def test_closing_the_terminal_leaves_the_agent_running(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.type(agent("STATUS: 10% on it", desk.hold("go"), "DONE: after all"))
        await terminal.until("status +10% on it")
    session = await session_id(desk)
    desk.release("go")
    ran = await desk.runs("attach", session)
    assert ran.returncode == 0, ran.stderr
    assert "after all" in ran.stdout
    assert "OSError" not in ran.stderr


# Attach


async def test_a_session_that_ends_while_attached_elsewhere(desk: Desk) -> None:
    steps = ("STATUS: 30% first", desk.hold("go"), "STATUS: 60% second", "DONE: ended")
    async with desk.terminal() as one, desk.terminal() as two:
        await one.type(agent(*steps))
        await one.until("status +30% first")
        await two.type('clear; optio-agents attach; echo "exit $?"')
        await two.until("this is what it wrote down")
        await two.until(r"^t +[━╺╸]+ +30%")
        desk.release("go")
        for terminal in one, two:
            seen = await terminal.ends(0)
            assert "60% second" in seen
            assert re.search(r"^t +━+ 100% +0:\d\d done", seen, re.MULTILINE)


async def test_whoever_looks_on_becomes_the_owner_when_the_owner_leaves(desk: Desk) -> None:
    steps = ("run trap '' INT", "STATUS: 30% first", desk.hold("go"), "write a.txt hello")
    more = ("DELIVERABLE: deliverables/a.txt", "hear", "DONE: heard it")
    async with desk.terminal() as one, desk.terminal() as two:
        await one.type(agent(*steps, *more))
        await one.until("status +30% first")
        await two.type('clear; optio-agents attach --save kept; echo "exit $?"')
        await two.until("this is what it wrote down")
        await leave(one)
        await one.ends(6)
        await two.until(r"began +\w+ on local\n(.*\n)*.*began +\w+ on local, once more")
        desk.release("go")
        await two.ends(0)
    assert (desk.home / "kept" / "a.txt").read_text() == "hello\n"


async def test_attach_without_an_id_shows_all_that_run(desk: Desk) -> None:
    async with desk.terminal(100) as terminal:
        for name in "one", "two":
            hold = desk.hold(f"go-{name}")
            ran = await desk.runs(
                *("run", "--detach", "--title", name, "--"), *("agent", hold, f"DONE: {name}")
            )
            assert ran.returncode == 0
        await terminal.type("clear; optio-agents attach </dev/null")  # no key can be read
        await terminal.until(
            rf"^\w{{8}} one {OWNED}working *\n\w{{8}} two {OWNED}working *\nCtrl-C twice leaves *$"
        )
        await leave(terminal)
        await terminal.until("come back with")
        await terminal.type('clear; optio-agents attach; echo "exit $?"')
        await terminal.until(
            rf"^\w{{8}} one {OWNED}working *\n\w{{8}} two {OWNED}working *\n↑ ↓ choose"
        )
        await terminal.key("C-c")
        await terminal.until("optio-agents interrupt ID")
        desk.release("go-one")
        await terminal.until(r"^\w{8} one .*done *\n\w{8} two .*working")
        desk.release("go-two")
        await terminal.ends(0)


async def test_leaving_several_says_once_how_to_come_back(desk: Desk) -> None:
    for name in "one", "two":
        flags = ("--detach", "--name", name)
        assert desk.run("run", *flags, "--", "agent", "STATUS: 5%", "hear").returncode == 0
    async with desk.terminal(100) as terminal:
        await terminal.type('clear; optio-agents attach; echo "exit $?"')
        await terminal.until(r"^one .* working")
        await terminal.until(r"^two .* working")
        await terminal.key("q")
        seen = await terminal.ends(6)
    assert seen.count("come back with") == 1
    assert "2 agents go on; come back with: optio-agents attach\n" in seen
    for name in "one", "two":
        shown = desk.run("show", name).stdout
        assert ", not ended\n" in shown
        assert "detached" not in shown
        assert "goes on without us" not in shown
        assert desk.run("stop", name).returncode == 0
        assert re.search(r"cancelled: stopped by \S+@\S+", desk.run("show", name).stdout)


async def test_q_leaves_at_once_and_asks_twice_where_that_stops_the_agent(desk: Desk) -> None:
    async with desk.terminal() as terminal:
        await terminal.type(agent("STATUS: 10% on it", desk.hold("go"), "DONE", flags="--name x"))
        await terminal.until("status +10% on it")
        await terminal.key("q")
        await terminal.ends(6)
        await terminal.type('clear; optio-agents attach x --stop-on-exit; echo "exit $?"')
        await terminal.until("once more")
        await terminal.key("q")
        await terminal.until("q again stops the agent")
        await terminal.key("q")
        await terminal.ends(130)


async def test_ctrl_c_of_whoever_looks_on_leaves_and_interrupts_nobody(desk: Desk) -> None:
    steps = ("STATUS: 30% first", desk.hold("go"), "DONE: ended")
    async with desk.terminal(120) as one, desk.terminal() as two:
        await one.type(agent(*steps, flags="--name x"))
        await one.until("status +30% first")
        await two.type('clear; optio-agents attach x; echo "exit $?"')
        await two.until("this is what it wrote down")
        await two.until(r"^t +[━╺╸]+ +30%")
        await two.key("C-c")
        await two.ends(6)
        assert "interrupt" not in await one.all()
        await two.type("clear; optio-agents interrupt x")
        await one.until(r"notice +\S+@\S+ \(pts/\d+\) interrupts the turn")
        await one.ends(3)


async def test_the_overview_opens_one_session_and_is_left(desk: Desk) -> None:
    async with desk.terminal(100) as terminal:
        for name in "one", "two":
            steps = (f"STATUS: 10% {name} begins", desk.hold(f"go-{name}"), "ERROR: no")
            named = ("--title", name, "--name", f"the-{name}")
            await desk.runs("run", "--detach", *named, "--", "agent", *steps)
        await terminal.type('clear; optio-agents attach; echo "exit $?"')
        seen = await terminal.until(
            r"^the-one +one .*10%.*\nthe-two +two .*10%.*\n↑ ↓ choose · Enter opens"
        )
        assert "begins" not in seen
        await terminal.key("Down")
        await terminal.key("Enter")
        assert "one begins" not in await terminal.until("status +10% two begins")
        await terminal.until("Esc closes it · q leaves")
        desk.release("go-two")
        await terminal.until("error +no")
        await terminal.until("^the-two: ")
        await terminal.key("q")
        await terminal.ends(6)
        desk.release("go-one")


# Permissions, with the real claude


@asynccontextmanager
async def asking(
    desk: Desk, command: str, *more: dict[str, object], flags: str = "", keys: str = ASKS
) -> AsyncIterator[tuple[Terminal, ModelServer]]:
    """A terminal in which claude works that wants to run *command*, and then does *more*."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(ModelServer().serve())
        named = desk.has_claude(api)
        terminal = await stack.enter_async_context(desk.terminal())
        bash = {"tool": "Bash", "input": {"command": command, "description": "Try it"}}
        (desk.home / "task").write_text(scripted(bash, *more))
        run = f'optio-agents run --title t {named} {flags} "$(cat task)"'
        await terminal.type(f'clear; {run}; echo "exit $?"')
        await terminal.until(keys)
        yield terminal, api


async def test_a_permission_is_asked_inline_and_given_with_a_key(desk: Desk) -> None:
    done = "touch let; echo 'DONE: was let' >>optio.log"  # to report alone needs no leave
    async with asking(desk, done, {"text": "bye"}) as (terminal, _):
        screen = await terminal.screen()
        assert re.search(r"^t asks: Bash \[.+\]$", screen, re.MULTILINE)
        assert f"  {done}" in screen
        await terminal.key("x")  # means nothing, and after it the question stands anew
        await terminal.until("a moment, then a key decides")
        await terminal.until(ASKS)
        await terminal.key("y")
        seen = await terminal.ends(0)
    assert "was let" in seen
    assert re.search(r"decision +allow by you: Bash `touch let; echo", seen)


async def test_letters_typed_ahead_and_a_held_key_decide_nothing(desk: Desk) -> None:
    done = "touch let; echo 'DONE: was let' >>optio.log"  # to report alone needs no leave
    first = {"tool": "Bash", "input": {"command": "touch one"}}
    second = {"tool": "Bash", "input": {"command": done}}
    async with asking(desk, "touch zero", first, second) as (terminal, _):
        await terminal.key("y")
        await terminal.until(r"^t asks: .*\n  touch one")
        for letter in "clear":  # typed for the shell
            await terminal.key(letter)
        await terminal.until(ASKS)
        await terminal.key("y")
        await terminal.until(f"^t asks: .*\n  {re.escape(done)}")
        for _ in range(20):  # held
            await terminal.key("y")
        screen = await terminal.until("a moment, then a key decides")
        assert len(re.findall("decision +.* allow by", screen)) == 2
        await terminal.until(ASKS)
        await terminal.key("y")
        await terminal.ends(0)


async def test_a_permission_is_refused_with_a_key(desk: Desk) -> None:
    error = {"tool": "Bash", "input": {"command": "touch let; echo 'ERROR: not let' >>optio.log"}}
    async with asking(desk, "touch forbidden", error) as (terminal, api), desk.terminal() as two:
        await two.type(f'clear; optio-agents approve {await session_id(desk)}; echo "exit $?"')
        await two.until(r"^Allow\? \[y/N\]:")
        await terminal.key("n")
        await terminal.until("decision +.* deny by")
        await two.type("y")  # to what is not asked any more
        assert re.search(r"no request '.*' is open|it was answered before", await two.ends(2))
        await terminal.until(r"let; echo 'ERROR: not let'")
        told = json.dumps(api.requests[-1]["messages"])
        assert "The operator said no" in told
        await terminal.until(ASKS)
        await terminal.key("a")
        await terminal.ends(1)


async def test_what_does_not_fit_is_counted_and_shown_with_a_key(desk: Desk) -> None:
    lines = "\n".join(f"# line {number}" for number in range(60))
    done = f"{lines}\ntouch let; echo 'DONE' >>optio.log"
    keys = "n deny · m shows all of it, and then y allows"
    async with asking(desk, done, {"text": "bye"}, keys=keys) as (terminal, _):
        seen = await terminal.screen()
        assert "# line 3\n" in seen
        assert "# line 50" not in seen
        await terminal.key("m")
        await terminal.until("# line 59\n.*DONE")
        await terminal.until(ASKS)
        await terminal.key("y")
        await terminal.ends(0)


async def test_a_permission_is_given_from_a_second_pane(desk: Desk) -> None:
    done = "touch let; echo 'DONE: was let' >>optio.log"  # to report alone needs no leave
    held = f"while [ ! -e '{desk.home}/go' ]; do sleep 0.02; done; {done}"
    async with asking(desk, held, {"text": "bye"}) as (one, _), desk.terminal() as two:
        session = await session_id(desk)
        await two.type(f'clear; optio-agents approve {session}; echo "exit $?"')
        await two.until(r"^Allow\? \[y/N\]:")
        assert "Bash [" in await two.screen()
        await two.type("y")
        await two.ends(0)
        # gone from the first pane although the command that was allowed still runs
        await one.until(r"^answered at another terminal: allow by \S+@")
        await one.until_gone(ASKS)
        desk.release("go")
        assert "was let" in await one.ends(0)


async def test_a_question_is_answered_with_a_number_while_another_pane_looks_on(
    desk: Desk,
) -> None:
    options = [{"label": "left", "description": "l"}, {"label": "right", "description": "r"}]
    asked = {"question": "Which way?", "header": "Way", "multiSelect": False, "options": options}
    ask = {"tool": "AskUserQuestion", "input": {"questions": [asked]}}
    done = {"tool": "Bash", "input": {"command": "touch let; echo 'DONE: gone' >>optio.log"}}
    async with asking(desk, "touch x", ask, done) as (one, api), desk.terminal() as two:
        await two.type('clear; TERM=dumb optio-agents attach; echo "exit $?"')
        await two.until(r"permission .*touch\s+x")
        await one.key("y")
        await one.until(r"Which way\?\n +1 left\n +2 right\na number answers")
        await one.key("2")
        await one.until(ASKS)
        assert "right" in json.dumps(api.requests[-1]["messages"])
        await one.key("y")
        await one.ends(0)
        seen = await two.ends(0)
    for words in ("decision .*allow by", "question .*Which way", "done gone", "finished done"):
        assert re.search(words, " ".join(seen.split())), words


async def test_ctrl_c_once_interrupts_the_turn_and_the_agent_stays(desk: Desk) -> None:
    async with asking(desk, "touch x", {"text": "thinking", "hold": "here"}) as (terminal, api):
        await terminal.key("y")
        await api.held("here")
        await terminal.key("C-c")
        await terminal.until(r"^t .*idle")
        session = await session_id(desk)
        done = {"tool": "Bash", "input": {"command": "touch let; echo 'DONE: go on' >>optio.log"}}
        sent = await desk.runs("send", session, scripted(done))
        assert sent.returncode == 0, sent.stderr
        await terminal.until(ASKS)
        await terminal.key("y")
        assert "go on" in await terminal.ends(0)


@pytest.mark.parametrize("letter", ["x", "語"])
async def test_a_long_line_forges_none_of_ours_where_the_terminal_folds_it(
    desk: Desk, letter: str
) -> None:
    forged = "12:00:00 done all of it"
    front = len("12:00:00 status ")
    pad = letter * ((80 - front) // (1 if letter.isascii() else 2))
    ran = await desk.runs("run", "--name", "x", "--", "agent", f"STATUS: {pad}{forged}", "DONE")
    assert ran.returncode == 0
    async with desk.terminal(80) as terminal:
        for verb in "logs", "show":
            await terminal.type(f"clear; optio-agents {verb} x; echo end of {verb}")
            await terminal.until(f"^end of {verb}$")
            lines = (await terminal.screen()).splitlines()
            assert any(letter * 9 in line for line in lines)
            assert not [line for line in lines if line.startswith("12:00:00")]
