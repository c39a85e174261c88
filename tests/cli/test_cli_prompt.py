"""The prompt verb prints what the library builds, and comes up quickly without heavy imports."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from optio_agents.cli.app import run_command
from optio_agents.protocol import prompt
from optio_agents.protocol.features import ProtocolFeatures


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], prompt.LOG_CHANNEL_PROMPT),
        (["--no-replies"], prompt.build_log_channel_prompt(replies=False)),
        (
            ["--browser", "redirect", "--client-messages", "--caller-messages"],
            prompt.build_log_channel_prompt(
                ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)
            ),
        ),
    ],
)
def test_each_flag_is_a_feature(
    flags: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["prompt", *flags]) == 0
    assert capsys.readouterr().out == text


def test_compose_puts_it_behind_ones_own_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Count to ten.\n")))
    assert run_command(["prompt", "--compose", "-"]) == 0
    assert capsys.readouterr().out == f"Count to ten.\n\n{prompt.LOG_CHANNEL_PROMPT}"


def test_a_wrong_flag_is_usage_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["prompt", "--browsers", "x"]) == 2
    assert "--browsers" in capsys.readouterr().err


def test_whoever_pipes_it_into_head_sees_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m optio_agents.cli prompt | head -n 1"
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == ("## Log channel\n", "")


def test_it_loads_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys; from optio_agents.cli.app import run_command; run_command(['prompt']);"
        "heavy = {'asyncssh', 'pydantic', 'rich', 'asyncio'} & sys.modules.keys();"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
