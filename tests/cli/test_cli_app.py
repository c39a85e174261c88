"""The frame of the command: help, errors in one sentence, exit codes, completion, start-up."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

import optio_agents
from optio_agents import errors
from optio_agents.cli import exits
from optio_agents.cli.app import VERBS, app, run_command
from optio_agents.cli.output import as_json
from tests.support.components import needs
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

START_UP = 0.25  # seconds for `prompt`, which waits for nothing: of the processor


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([verb, "--help"]) == 0
    assert f"Example:  optio-agents {verb}" in capsys.readouterr().out


def test_the_overview_names_every_verb_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {verb} " in told for verb in VERBS)
    assert max(map(len, told.splitlines())) <= 80


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AgentReportedError("it says no"), 1),
        (errors.AgentExited("gone"), 3),
        (errors.EndedByHook("enough"), 3),
        (errors.AgentStalled("silence"), 5),
        (errors.DoneRefused("not yet"), 8),
        (errors.HostUnreachable("away"), 4),
        (errors.ConnectError("no way"), 4),
        (errors.HostLost("lost"), 4),
        (errors.FileRefused("/x", "directory"), 2),
        (errors.WorkDirRefused("not ours"), 2),
        (errors.NoSuchSession("none"), 2),
        (errors.StoreError("the disk is full"), 70),
        (ValueError("cannot be"), 2),
        (ZeroDivisionError("oops"), 70),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 0),
        (click.Abort(), 130),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_one_sentence_and_an_exit_code(
    error: BaseException,
    code: int,
    debug: bool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(_: click.Context) -> None:
        raise error

    monkeypatch.setattr(app.get_command(click.Context(app), "send"), "invoke", fail)
    words = ["send", "id", *(["--debug"] if debug else []), "--", "--debug"]
    assert run_command(words) == code  # what stands behind -- is not for us
    told = capfd.readouterr().err
    if not isinstance(error, KeyboardInterrupt | BrokenPipeError | click.Abort):
        assert str(error) in told
        assert ("Traceback" in told) == debug
        assert debug or told.count("\n") == 1
        assert debug or ("a fault of ours" in told) == isinstance(error, ZeroDivisionError)


def test_what_an_error_quotes_cannot_act_on_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["watch", "--host-key", "\x1b[2J", "x"]) == exits.USAGE
    assert "\x1b" not in capsys.readouterr().err


def test_without_its_extra_the_command_says_how_to_get_it() -> None:
    code = (
        "import sys; sys.modules['click'] = None; from optio_agents.cli import main;"
        "sys.argv = ['optio-agents', 'demo']; main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == (
        "optio-agents: the command needs more than the library. In a checkout: pip install "
        "'.[cli]'; from a wheel: pip install './NAME.whl[cli]'. On the index, another project may "
        "have this name.\n"
    )


def test_prompt_is_there_in_a_quarter_of_a_second(desk: Desk) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert desk.run("prompt", env={"COVERAGE_PROCESS_START": ""}).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < START_UP


OPERATING = (Path(optio_agents.__file__).parent / "guide/operating.md").read_text()
ASKED = {  # what each shell would offer
    "bash": "COMP_WORDS=(optio-agents wa); COMP_CWORD=1; "
    '"$(complete -p optio-agents | sed "s/.*-F //;s/ .*//")" optio-agents; echo "${COMPREPLY[@]}"',
    "zsh": 'echo "${_comps[optio-agents]:+watch}"',
    "fish": "complete -C 'optio-agents wa'",
}


@pytest.mark.parametrize("shell", ASKED)
def test_the_line_of_the_guide_completes_in_each_shell(shell: str, desk: Desk) -> None:
    program = str(needs(shell))
    line = next(line for line in OPERATING.splitlines() if f"COMPLETE={shell}_source" in line)
    before = "autoload -Uz compinit && compinit -u; " if shell == "zsh" else ""
    ran = subprocess.run(
        [program, "-c", f"{before}{line}\n{ASKED[shell]}"],
        env=desk.env,
        cwd=desk.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    assert ran.stdout.split()[:1] == ["watch"], ran.stderr


def test_completion_knows_verbs_and_flags(desk: Desk) -> None:
    def completed(words: str, at: int) -> str:
        env = {
            "_OPTIO_AGENTS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(at),
        }
        return desk.run(env=env).stdout

    assert "plain,watch" in completed("optio-agents wa", 1)
    assert "plain,--stop-on-exit" in completed("optio-agents demo --st", 2)


def test_a_terminal_that_cannot_show_a_character_gets_an_escape(desk: Desk) -> None:
    Path(desk.home, "optio.log").write_text("STATUS: \u2713\nDONE\n")
    ran = desk.run("watch", "optio.log", env={"PYTHONIOENCODING": "latin-1"})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\\u2713" in ran.stdout


# Where standard output leads nowhere, and what libraries warn of


def shell(desk: Desk, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line],
        env=desk.env,
        cwd=desk.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )


def test_closed_streams_are_no_trouble(desk: Desk) -> None:
    ran = shell(desk, "optio-agents run -- sh -c 'echo DONE >>optio.log' <&- >&-")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "done" in desk.run("ls").stdout
    assert shell(desk, "optio-agents ls 2>&-").returncode == 0


def test_a_full_disk_behind_standard_output_is_told_and_no_success(desk: Desk) -> None:
    ran = shell(desk, "optio-agents run --json -- sh -c 'echo DONE >>optio.log' >/dev/full")
    assert ran.returncode == exits.SPOILED
    assert ran.stderr.count("No space left on device") == 1
    assert "the session goes on" in ran.stderr
    assert "done" in desk.run("ls").stdout
    for verb in "ls", "ls --json", "prompt":
        ran = shell(desk, f"optio-agents {verb} >/dev/full")
        assert ran.returncode == exits.OUR_FAULT
        assert ran.stderr == (
            "optio-agents: there is no room for what is to be written: No space left on device\n"
        )


def test_an_empty_home_is_no_place_to_keep_anything(desk: Desk) -> None:
    ran = desk.run("ls", env={"HOME": ""})
    assert (ran.returncode, ran.stderr) == (
        2,
        "optio-agents: HOME is empty: set it to your home directory\n",
    )


WARNS = """
import logging, sys
from optio_agents.cli import main
from optio_agents.cli.verbs import prompt

def warn(*_: object) -> None:
    try:
        raise OSError("it \\033[2J broke")
    except OSError:
        for _ in range(2):
            logging.getLogger("asyncssh").warning("cannot say this", exc_info=True)
    logging.getLogger("asyncssh").info("nobody needs this")

prompt.prompt.invoke = warn
main()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_a_warning_of_a_library_is_one_line_and_kept_whole(desk: Desk, debug: bool) -> None:
    argv = [sys.executable, "-c", WARNS, *(["--debug"] if debug else []), "prompt"]
    ran = subprocess.run(argv, env=desk.env, capture_output=True, text=True, check=True)
    log = desk.home / ".local/state/optio-agents/warnings.log"
    assert log.read_text().count("Traceback (most recent call last)") == 2
    assert log.stat().st_mode & 0o777 == 0o600
    if debug:
        assert "Traceback (most recent call last)" in ran.stderr
    else:
        words = r"optio-agents: cannot say this: OSError it \x1b[2J broke"
        assert ran.stderr == f"{words} (whole in {log})\n"


def test_json_lines_never_hold_nan() -> None:
    text = as_json({"a": float("nan"), "b": [1.5, float("inf"), {"c": -float("inf")}], "d": ()})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.5, None, {"c": None}],
        "d": [],
    }


def test_the_guide_is_read_in_the_terminal(desk: Desk) -> None:
    topics = desk.run("help").stdout
    names = [line.split()[0] for line in topics.splitlines() if line.startswith("  ")]
    assert names[:2] == ["first-hour", "supervising"]
    assert {"hooks", "hosts", "records", "operating", "troubleshooting"} <= set(names)
    for name in names:
        assert desk.run("help", name).stdout.startswith("# ")
    assert desk.run("help", "ls").stdout == desk.run("ls", "--help").stdout
    ran = desk.run("help", "nothing")
    assert (ran.returncode, "there is no page 'nothing'" in ran.stderr) == (2, True)


async def test_a_page_of_the_guide_is_rendered_where_a_person_reads(desk: Desk) -> None:
    async with desk.terminal(120, 80) as terminal:
        await terminal.type('clear; optio-agents help conversations; echo "exit $?"')
        seen = await terminal.ends(0)
    assert "Deciding what an agent may do" in seen
    assert "## Deciding" not in seen
    assert max(map(len, seen.splitlines())) <= 100
