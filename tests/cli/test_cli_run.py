"""Running agents where nobody watches: lines, exit codes, notifications, secrets, own files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.components import needs
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run(desk: Desk, *steps: str, flags: tuple[str, ...] = (), **more: Any) -> Any:
    return desk.run("run", *flags, "--", "agent", *steps, **more)


# The contract of lines


def test_verify_decides_what_is_done_and_its_exit_code_says_so(desk: Desk) -> None:
    steps = ("DONE", "hear", "run touch mended", "DONE: all")
    ran = run(desk, *steps, flags=("--json", "--verify", "test -e mended"))
    told = records(ran.stdout)
    checks = [one["accepted"] for one in told if one["kind"] == "check"]
    assert (ran.returncode, checks, told[-1]["verified"]) == (0, [False, True], True)
    assert "done, verified" in desk.run("ls").stdout
    ran = run(desk, *steps, flags=("--json", "--verify", "exit 5", "--verify-tries", "2"))
    end = records(ran.stdout)[-1]
    assert (ran.returncode, end["outcome"], end["exit_code"]) == (8, "refused", 8)
    assert "refused" in desk.run("ls").stdout


def test_json_lines_have_a_version_a_kind_and_stable_keys(desk: Desk) -> None:
    steps = (
        "STATUS: 50% half",
        "just words",
        "ATTENTION: look",
        "write a.txt hello",
        "DELIVERABLE: deliverables/a.txt",
        "hear",
        "DONE: all",
    )
    ran = run(desk, *steps, flags=("--json", "--save", "kept"))
    told = records(ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {(one["v"], type(one["at"])) for one in told} == {(1, float)}
    assert len({one["session"] for one in told}) == 1
    kinds = [one["kind"] for one in told if one["kind"] not in ("delivery", "phase")]
    assert [one["number"] for one in told] == list(range(1, len(told) + 1))
    assert [one["text"] for one in told if one["kind"] == "phase"] == ["starting", "working"]
    log = ["status", "narration", "attention", "deliverable", "done"]
    assert kinds == ["began", *log, "finished"]
    common = {"v", "kind", "at", "session", "number"}
    line = common | {"file", "generation", "offset"}
    keys = {one["kind"]: one.keys() for one in told}
    assert keys["began"] == common | {"host", "taskdir", "resumed"}
    assert keys["status"] == line | {"percent", "text"}
    assert keys["narration"] == keys["done"] == keys["attention"] == line | {"text"}
    assert keys["deliverable"] == line | {"path"}
    delivery = {"path", "size", "sha256", "reply", "taken", "saved"}
    assert keys["delivery"] == common | delivery
    assert keys["finished"] == common | {
        *("outcome", "exit_code", "text", "verified", "deliverables", "abandoned")
    }
    end = told[-1]
    assert (end["outcome"], end["exit_code"], end["text"]) == ("done", 0, "all")
    assert [(one["path"], one["size"]) for one in end["deliverables"]] == [("a.txt", 6)]
    assert (desk.home / "kept" / "a.txt").read_text() == "hello\n"


def test_json_lines_are_ascii_whatever_the_agent_writes(desk: Desk) -> None:
    ran = run(desk, "STATUS: 50% žluťoučký 🐎", "DONE: ✓", flags=("--json",))
    assert ran.stdout.isascii()
    told = {one["kind"]: one for one in records(ran.stdout)}
    assert (told["status"]["text"], told["finished"]["text"]) == ("žluťoučký 🐎", "✓")


def test_the_last_json_line_of_a_stalled_session_tells_its_exit_code(desk: Desk) -> None:
    ran = run(desk, "STATUS: 1%", "sleep 600", flags=("--json", "--stall-after", "0.5"))
    last = records(ran.stdout)[-1]
    assert (last["kind"], last["outcome"]) == ("finished", "stalled")
    assert ran.returncode == last["exit_code"] == 5


def test_plain_lines_are_time_kind_and_words(desk: Desk) -> None:
    ran = run(desk, "STATUS: 50% half", "write a hi", "DELIVERABLE: a", "hear", "DONE: all")
    words = [line.split(" ", 1)[1] for line in ran.stdout.splitlines()]
    assert words[0].startswith("began ")
    assert words[1:3] == ["status 50% half", "deliverable a"]
    assert words[-2:] == ["done all", "finished done: all"]
    assert all(line[2] == line[5] == ":" for line in ran.stdout.splitlines())


# Exit codes


def test_done_with_a_file_that_could_not_be_kept_is_told_apart(desk: Desk) -> None:
    (desk.home / "kept").write_text("a file where the directory would be")
    steps = ("write a.txt hello", "DELIVERABLE: deliverables/a.txt", "hear", "DONE")
    ran = run(desk, *steps, flags=("--json", "--save", "kept/deeper"))
    assert ran.returncode == 7
    assert records(ran.stdout)[-1]["exit_code"] == 7
    assert "the agent is done, and on our side failed: saving" in ran.stderr


@pytest.mark.parametrize(
    ("steps", "flags", "code"),
    [
        (("DONE: all",), (), 0),
        (("ERROR: no", "sleep 600"), (), 1),
        (("STATUS: 1%", "exit 9"), (), 3),
        (("STATUS: 1%", "sleep 600"), ("--stall-after", "0.5"), 5),
        (("sleep 600",), ("--detach",), 0),
    ],
)
def test_each_ending_has_its_exit_code(
    steps: tuple[str, ...], flags: tuple[str, ...], code: int, desk: Desk
) -> None:
    ran = run(desk, *steps, flags=flags)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    if flags == ("--detach",):
        found = ran.stderr.split("optio-agents attach ")[1].split()[0]
        stopped = desk.run("stop", found, "--grace", "0")
        assert (stopped.returncode, stopped.stdout) == (
            0,
            "stopped; nothing of it is left running\n",
        )
        assert desk.run("attach", found).returncode == 2  # it is over


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run",), "say what to do"),
        (("run", "--"), "no command stands behind --"),
        (("run", "--model", "x", "--", "true"), "are claude's"),
        (("run", "--permission", "deny", "--allow", "Bash", "x"), "allows nothing"),
        (("run", "--env", "API_KEY=1", "x"), "looks like a credential"),
        (("run", "--fork", "do it"), "--fork is for --continue"),
        (("run", "do it"), "npm install -g @anthropic-ai/claude-code"),
        (("show", "abc"), "no session 'abc'"),
        (("send", "abc", "hi"), "no session 'abc'"),
        (("attach", "abc"), "no session 'abc'"),
        (("prune", "--older-than", "soon"), "30d"),
        (("watch", "/"), "is no log"),
    ],
)
def test_misuse_is_a_sentence_that_says_what_to_do(
    words: tuple[str, ...], told: str, desk: Desk
) -> None:
    ran = desk.run(*words)
    assert ran.returncode == 2
    assert told in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr


def test_a_program_that_nobody_finds_is_named_with_where_it_was_looked_for(desk: Desk) -> None:
    ran = desk.run("run", "--end-input", "--", "nosuchprogram")
    assert ran.returncode == 3
    told = " ".join(ran.stderr.split())
    assert "(exit code 127): nosuchprogram: not found, neither on the PATH of a login shell" in told
    assert desk.run("ls").stdout.count("exited") == 1


@pytest.mark.parametrize("place", ["this terminal", "a terminal"])
def test_what_only_a_terminal_finds_is_found(desk: Desk, place: str) -> None:
    apart = desk.home / "apart"
    (desk.home / "bin").rename(apart)
    (desk.home / ".profile").write_text("PATH=/usr/bin:/bin\n")
    if place == "this terminal":
        desk.env["PATH"] = f"{apart}:{desk.env['PATH']}"
    else:
        (desk.home / ".bashrc").write_text(f"echo hello; PATH={apart}:$PATH\n")
        desk.env["SHELL"] = "/bin/bash"
    ran = desk.run("run", "--", "agent", "DONE: found")
    assert ran.returncode == 0, ran.stderr
    (apart / "claude").symlink_to("agent")
    ran = desk.run("run", "do it")  # it is no claude, but it is found
    assert "not installed" not in ran.stderr
    (apart / "aider").symlink_to("agent")
    assert "aider" in desk.run("doctor").stdout


def test_a_polite_end_leaves_the_agent_running(desk: Desk) -> None:
    steps = ("STATUS: on it", desk.hold("go"), "DONE: after all")
    with desk.running("run", "--", "agent", *steps) as (running, lines):
        assert any("on it" in line for line in lines)
        running.send_signal(signal.SIGTERM)
        assert running.wait(BOUND) == 6
    desk.release("go")
    ran = desk.run("attach", "--json", desk.listed()[0]["session"])
    assert ran.returncode == 0
    assert records(ran.stdout)[-1]["text"] == "after all"


def test_a_signal_is_heard_beside_a_line_without_an_end(desk: Desk) -> None:
    text = 'echo begun >>"$OPTIO_LOG"; truncate -s 2T "$OPTIO_LOG"; exec sleep 1000'
    with desk.running("run", "--", "sh", "-c", text) as (running, lines):
        assert any("begun" in line for line in lines)
        running.send_signal(signal.SIGTERM)
        assert running.wait(BOUND) == 6
    session = desk.listed()[0]["session"]
    assert desk.run("stop", session).returncode == 0


def test_nothing_is_lost_when_the_command_is_killed(desk: Desk) -> None:
    steps = ("STATUS: on it", desk.hold("go"), "write a.txt hello")
    more = ("DELIVERABLE: deliverables/a.txt", "hear", "DONE: after all")
    with desk.running("run", "--save", "kept", "--", "agent", *steps, *more) as (running, lines):
        assert any("on it" in line for line in lines)
        running.kill()
    desk.release("go")
    session = desk.listed()[0]["session"]
    ran = desk.run("attach", session[:5], "--save", "kept")
    assert ran.returncode == 0, ran.stderr
    assert (desk.home / "kept" / "a.txt").read_text() == "hello\n"
    assert "after all" in desk.run("show", session).stdout
    assert desk.run("logs", session).stdout.count("on it") == 1


# Around it


def test_the_operator_is_told_of_what_calls_for_them(desk: Desk) -> None:
    steps = ("STATUS: quiet", "ATTENTION: look here", "DONE: all")
    ran = run(desk, *steps, flags=("--notify", "cat >>told; echo x; exit 3"))
    assert ran.returncode == 0
    told = records((desk.home / "told").read_text())
    assert [one["kind"] for one in told] == ["attention", "finished"]
    assert told[0]["text"] == "look here"
    assert "exited with 3" in ran.stderr


def test_a_credential_reaches_the_agent_and_nothing_else(desk: Desk) -> None:
    steps = (
        'run echo "STATUS: $MY_TOKEN" >>$OPTIO_LOG',
        'run printf %s "$MY_TOKEN" >~/got',
        "DONE",
    )
    flags = ("--env", "MY_TOKEN", "--json")
    ran = run(desk, *steps, flags=flags, env={"MY_TOKEN": "hunter2-hunter2"})
    assert ran.returncode == 0
    assert (desk.home / "got").read_text() == "hunter2-hunter2"
    assert "hunter2" not in ran.stdout + ran.stderr
    assert "[MY_TOKEN]" in ran.stdout
    journal = desk.home / ".local/state/optio-agents"
    kept = [path for path in journal.glob("journal*") if b"hunter2" in path.read_bytes()]
    assert kept == []


def test_a_credential_is_not_shown_when_the_agent_fails_nor_in_the_title(desk: Desk) -> None:
    long = 'printf "%04090d %s\\n" 7 "$DB_PASS" >>$OPTIO_LOG'
    steps = (
        f"run {long}",
        'run echo "not as $DB_PASS" >&2; echo "as $DB_PASS it did not work" >>$OPTIO_LOG',
        "exit 9",
    )
    (desk.home / "env").write_text("DB_PASS=hunter22\n")
    prompt = f"{'x' * 194}hunter22 and more"
    ran = desk.run("run", "--env-file", "env", prompt, "--", "agent", *steps)
    assert ran.returncode == 3
    assert "not as [DB_PASS]" in ran.stderr
    assert "as [DB_PASS] it did not work" in ran.stderr
    shown = desk.run("ls").stdout
    (session,) = re.findall(r"^[0-9a-f]{8}", shown, re.MULTILINE)
    shown += desk.run("show", session).stdout + desk.run("logs", session).stdout
    shown += ran.stdout + ran.stderr
    assert "hunte" not in shown
    kept = [path for path in desk.home.rglob("*") if path.is_file()]
    with_it = {path.name for path in kept if b"hunte" in path.read_bytes()}
    theirs = {"AGENTS.md", "00000000000000000000-prompt"}  # the agent must know the task
    assert with_it - {"env"} <= {"optio.log", "stdout", "stderr", *theirs}


def test_links_and_odd_names_do_not_lead_out_of_the_directory_to_save_in(desk: Desk) -> None:
    outside = desk.home / "outside"
    (desk.home / "kept").mkdir()
    outside.mkdir()
    (desk.home / "kept" / "sub").symlink_to(outside)
    steps = (
        "write sub/a.txt hello",
        "DELIVERABLE: deliverables/sub/a.txt",
        "hear",
        "write -rf.txt hello",
        "DELIVERABLE: deliverables/-rf.txt",
        "hear",
        "DONE",
    )
    ran = run(desk, *steps, flags=("--save", "kept", "--json"))
    assert list(outside.iterdir()) == []
    assert (desk.home / "kept" / "%2Drf.txt").read_text() == "hello\n"
    assert ran.returncode == 7  # one of them was not kept


def test_an_agent_must_not_act_on_agents(desk: Desk) -> None:
    ours = Path(sys.executable).with_name("optio-agents")
    tries = f"run {{}} {ours} {{}} >>~/said 2>&1; echo $? >>~/said"
    steps = [
        tries.format("", "send x y"),
        tries.format("env -u OPTIO_SESSION", "approve x --yes"),
        tries.format("env -i HOME=$HOME PATH=$PATH setsid -w", "stop x"),
        tries.format("env -u OPTIO_SESSION", "attach x"),
    ]
    assert run(desk, *steps, "DONE").returncode == 0
    said = (desk.home / "said").read_text().splitlines()
    assert [line for line in said if line.isdecimal()] == ["2"] * 4
    assert sum("does not run inside one" in line for line in said) == 4


# A directory of the user's


def digest(directory: Path) -> str:
    """Everything below *directory* but what git touches by itself: names, modes and contents."""
    whole = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.name in {"index", "exclude"} and path.parent.name in {".git", "info"}:
            continue
        whole.update(f"{path.relative_to(directory)} {path.lstat().st_mode}".encode())
        if path.is_file() and not path.is_symlink():
            whole.update(path.read_bytes())
    return whole.hexdigest()


@pytest.fixture
def project(desk: Desk) -> Path:
    """A git repository with work that is not committed."""
    git = str(needs("git"))
    project = desk.home / "project"
    project.mkdir()
    for name, text in ("CLAUDE.md", "mine\n"), ("code.py", "print(1)\n"), ("AGENTS.md", "mine\n"):
        (project / name).write_text(text)
    env = {**desk.env, "GIT_CONFIG_NOSYSTEM": "1"}
    for words in (
        ("init", "-q"),
        ("add", "CLAUDE.md", "code.py"),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"),
    ):
        subprocess.run([git, *words], cwd=project, env=env, check=True, capture_output=True)
    (project / "code.py").write_text("print(2)  # not committed\n")
    return project


def test_a_directory_of_ones_own_is_as_it_was_but_for_what_was_handed_over(
    desk: Desk, project: Path
) -> None:
    before = digest(project)
    steps = ("STATUS: on it", desk.hold("go"), "write a.txt hello")
    more = ("DELIVERABLE: deliverables/a.txt", "hear", "DONE")
    with desk.running("run", "--cwd", "project", "--", "agent", *steps, *more) as (running, lines):
        assert any("on it" in line for line in lines)
        running.kill()  # a crash
    desk.release("go")
    session = desk.listed()[0]["session"]
    assert desk.run("attach", session).returncode == 0
    status = subprocess.run(
        [needs("git"), "status", "--porcelain"],
        cwd=project,
        env=desk.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert status.stdout == " M code.py\n?? AGENTS.md\n"  # nothing of ours shows up
    pruned = desk.run("prune", "--older-than", "0s", "--yes")
    assert pruned.stdout == f"{session} removed\n"
    kept = project / ".optio" / session / "deliverables" / "a.txt"
    assert kept.read_text() == "hello\n"
    shutil.rmtree(project / ".optio")
    assert digest(project) == before


def test_a_directory_that_is_refused_is_untouched(desk: Desk, project: Path) -> None:
    (project / ".optio").write_text("mine\n")
    before = digest(project)
    ran = desk.run("run", "--cwd", "project", "--", "agent", "DONE")
    assert ran.returncode == 2
    assert ".optio" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not list(desk.home.glob(".local/state/optio-agents/tasks/*"))
    assert digest(project) == before
    assert desk.run("prune", "--older-than", "0s", "--yes").stdout == "nothing to remove\n"
    assert digest(project) == before


# From another terminal, to the real claude


async def test_claude_is_approved_denied_answered_and_told_from_elsewhere(desk: Desk) -> None:
    question = {
        "questions": [
            {
                "question": "Which way?",
                "header": "Way",
                "multiSelect": False,
                "options": [
                    {"label": "left", "description": "l"},
                    {"label": "right", "description": "r"},
                ],
            }
        ]
    }
    steps = [
        {"tool": "Bash", "input": {"command": "touch one"}},
        {"tool": "AskUserQuestion", "input": question},
        {"tool": "Bash", "input": {"command": "touch two"}},
        {"tool": "Bash", "input": {"command": "touch two && echo DONE >>optio.log"}},
    ]
    async with ModelServer().serve() as api:
        flags = desk.has_claude(api).split()
        ran = await desk.runs("run", "--detach", *flags, scripted(*steps))
        assert ran.returncode == 0, ran.stderr
        session = records((await desk.runs("ls", "--json")).stdout)[0]["session"]
        argv = ["optio-agents", "attach", session, "--json", "--notify", "cat >>told"]
        async with await anyio.open_process(argv, env=desk.env, cwd=desk.home) as watching:
            lines = _Lines(watching)
            asked = await lines.next("permission")
            assert asked["input"]["command"] == "touch one"
            missing = await desk.runs("approve", session, "zzz")
            assert "no request 'zzz' is open" in missing.stderr
            empty = await desk.runs("approve", session, "", "--yes")
            assert (empty.returncode, "it is empty" in empty.stderr) == (2, True)
            done = await desk.runs("approve", session, asked["request"][:6], "--always")
            assert "\n  touch one\n  (always grants: Bash(touch one *)" in done.stdout
            assert done.stdout.endswith("\nallowed\n")
            again = await desk.runs("approve", session, asked["request"])
            assert again.returncode == 2
            asked = await lines.next("question")
            refused = await desk.runs("approve", session, "--yes")
            assert "use `optio-agents answer`" in refused.stderr
            answered = await desk.runs("answer", session, "--choose", "2")
            assert answered.returncode == 0, answered.stderr
            asked = await lines.next("permission")
            assert "right" in json.dumps(api.requests[-1]["messages"])
            denied = await desk.runs("deny", session, "--yes", "--message", "not this")
            assert denied.stdout.endswith("denied\n")
            asked = await lines.next("permission")
            assert "not this" in json.dumps(api.requests[-1]["messages"])
            assert (await desk.runs("approve", session, "--yes")).returncode == 0
            assert (await lines.next("finished"))["outcome"] == "done"
            assert await watching.wait() == 0
    told = [one["kind"] for one in records((desk.home / "told").read_text())]
    assert told == ["permission", "question", "permission", "permission", "finished"]
    story = (await desk.runs("show", session)).stdout
    assert "touch one" in story
    assert "$" in story
    shown = records((await desk.runs("show", session, "--json")).stdout)
    decided = [(one["behavior"], "@" in one["by"]) for one in shown if "behavior" in one]
    assert decided == [("allow", True), ("allow", True), ("deny", True), ("allow", True)]


async def test_who_approves_or_sends_from_elsewhere_shows_and_keeps_no_credential(
    desk: Desk,
) -> None:
    command = "echo hunter22-hunter22 >got; echo DONE >>optio.log"
    (desk.home / "env").write_text("DB_PASS=hunter22-hunter22\n")
    async with ModelServer().serve() as api:
        flags = ("--detach", "--env-file", "env", *desk.has_claude(api).split())
        prompt = scripted({"tool": "Bash", "input": {"command": command}})
        ran = await desk.runs("run", "--title", "x", *flags, prompt)
        assert ran.returncode == 0, ran.stderr
        session = records((await desk.runs("ls", "--json")).stdout)[0]["session"]
        with anyio.fail_after(BOUND):
            while "[DB_PASS]" not in (done := await desk.runs("approve", session, "--yes")).stdout:
                assert "nothing is asked now" in done.stderr  # not yet
        told = await desk.runs("send", session, "it is hunter22-hunter22")
        ended = await desk.runs("attach", session)
    said = "".join(one.stdout + one.stderr for one in (done, told, ended))
    assert "hunter22" not in said
    assert ended.returncode == 0
    (got,) = desk.home.glob(".local/state/optio-agents/tasks/*/workdir/got")
    assert got.read_text() == "hunter22-hunter22\n"  # what was asked for was done
    journal = [path.read_bytes() for path in desk.home.glob(".local/state/optio-agents/journal*")]
    assert b"hunter22" not in b"".join(journal)


async def test_what_was_not_allowed_beforehand_is_denied_where_nobody_is_asked(desk: Desk) -> None:
    steps = [
        {"tool": "Bash", "input": {"command": "touch one"}},
        {"tool": "Bash", "input": {"command": "finish"}},
    ]
    desk.program("finish", 'echo DONE >>"$OPTIO_LOG"\n')
    async with ModelServer().serve() as api:
        flags = [*desk.has_claude(api).split(), "--permission", "allow-listed"]
        allowed = ("--allow", "Bash(finish)")
        ran = await desk.runs("run", *flags, *allowed, scripted(*steps))
        assert ran.returncode == 0, ran.stderr
        assert "nobody may be asked" in json.dumps(api.requests[-1]["messages"])


async def test_who_may_ask_nobody_may_report_all_the_same(desk: Desk) -> None:
    steps = [
        {"tool": "Bash", "input": {"command": "touch one"}},
        {"tool": "Bash", "input": {"command": "printf '%s\\n' 'STATUS: 50% half' >> optio.log"}},
        {"tool": "Bash", "input": {"command": "printf '%s\\n' 'DONE: all' >> optio.log"}},
    ]
    async with ModelServer().serve() as api:
        flags = [*desk.has_claude(api).split(), "--permission", "deny", "--json"]
        ran = await desk.runs("run", *flags, scripted(*steps))
        assert ran.returncode == 0, ran.stderr
    denied = [one["input"]["command"] for one in records(ran.stdout) if one["kind"] == "permission"]
    assert denied == ["touch one"]
    assert [one["percent"] for one in records(ran.stdout) if one["kind"] == "status"] == [50]


async def test_edits_are_accepted_and_the_rest_is_asked_for_as_long_as_said(desk: Desk) -> None:
    steps = [
        {"tool": "Write", "input": {"file_path": "made", "content": "hello"}},
        {"tool": "Bash", "input": {"command": "finish"}},
        {"tool": "Bash", "input": {"command": "ls made && echo DONE >> optio.log"}},
    ]
    desk.program("finish", "exit 0\n")
    async with ModelServer().serve() as api:
        flags = [*desk.has_claude(api).split(), "--permission", "accept-edits", "--json"]
        ran = await desk.runs("run", *flags, "--permission-timeout", "0.5", scripted(*steps))
        assert ran.returncode == 0, ran.stderr
    asked = [one["input"]["command"] for one in records(ran.stdout) if one["kind"] == "permission"]
    assert asked == ["finish"]
    decided = [one for one in records(ran.stdout) if one["kind"] == "decision"]
    assert [(one["behavior"], one["by"]) for one in decided] == [("deny", "nobody")]


async def test_a_session_that_is_over_goes_on_in_another_where_it_was(desk: Desk) -> None:
    done = {"tool": "Bash", "input": {"command": 'echo DONE >> "$OPTIO_LOG"'}}
    made = {"tool": "Bash", "input": {"command": "echo remembered > made"}}
    async with ModelServer().serve() as api:
        flags = [*desk.has_claude(api).split(), "--json", "--permission", "allow-listed"]
        flags += ["--allow", "Bash"]
        first = scripted(made, done, {"text": "the first answer"})
        ran = await desk.runs("run", *flags, "--name", "first", first)
        assert ran.returncode == 0, ran.stderr
        held = scripted(
            {"tool": "Bash", "input": {"command": "cat made"}}, done, {"text": "the second"}
        )
        again = await desk.runs("run", *flags, "--continue", "first", "--fork", held)
        assert again.returncode == 0, again.stderr
        said = json.dumps(api.requests[-1]["messages"])
        assert "the first answer" in said
        assert said.count("remembered") > 1, "it works where the first one did"
        lost = await desk.runs("run", *flags, "--continue", "first", "--cwd", "x", "on")
        assert "goes on where the session was" in lost.stderr
        nobody = await desk.runs("run", *flags, "--continue", "nobody", "on")
        assert "no session 'nobody'" in nobody.stderr


class _Lines:
    """The JSON lines of a process, as they come."""

    def __init__(self, process: Any) -> None:
        self._stdout, self._rest = process.stdout, b""

    async def next(self, kind: str) -> dict[str, Any]:
        with anyio.fail_after(BOUND):
            while True:
                while b"\n" in self._rest:
                    line, _, self._rest = self._rest.partition(b"\n")
                    if (found := json.loads(line))["kind"] == kind:
                        return dict(found)
                self._rest += await self._stdout.receive()
