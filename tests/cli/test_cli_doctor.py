"""What doctor makes of what a host says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from optio_agents.cli.app import run_command
from optio_agents.cli.verbs import doctor
from optio_agents.cli.verbs.doctor import Finding, ignored_options, judge
from optio_agents.store import Store, StoredSession

HEALTHY = {
    "system": ["Linux 6.1"],
    "shell": ["/bin/zsh"],
    "python3": ["3.11.2"],
    "perl": ["5.036"],
    "proc": ["yes"],
    "download": ["curl"],
    "inotify_instances": ["1024"],
    "descriptors": ["1048576"],
    "kill_user_processes": ["no"],
    "free_kib": ["90000000"],
    "claude": ["2.1.329 (Claude Code)"],
    "claude_login": ["file"],
}


def findings(**facts: list[str]) -> list[Finding]:
    return list(judge({**HEALTHY, **facts}))


async def test_it_tells_how_much_of_an_allowance_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Store() as store:
        for session, used in ("a", 20), ("b", 42):
            facts = {"program": "/bin/claude"}
            await store.add(StoredSession(session, 0.0, "local", f"/t/{session}", facts))
            usage = [{"label": "week", "pct": used}, {"label": "five_hour", "pct": 3}]
            await store.journal(session).note("usage", "claude", usage)
    (found,) = await doctor._used(None)  # noqa: SLF001 - it needs no machine
    assert found.words.startswith("claude has used week 42% of its allowance, as it said on 20")


def test_a_healthy_host_has_nothing_to_mend() -> None:
    found = findings()
    assert {one.state for one in found} == {"ok"}
    assert all(not one.mend for one in found)
    told = "\n".join(one.words for one in found)
    for words in "Linux 6.1", "/bin/zsh", "python3 3.11.2", "85.8 GiB", "claude 2.1.329":
        assert words in told


@pytest.mark.parametrize(
    ("facts", "state", "told", "mend"),
    [
        ({"proc": ["no"]}, "bad", "no readable /proc", "Linux"),
        ({"missing": ["setsid", "awk"]}, "bad", "setsid, awk", "util-linux"),
        ({"python3": [""]}, "note", "no python3", "install python3"),
        ({"python3": ["3.6.9"]}, "note", "python3 3.6.9 is too old", "3.7"),
        ({"python3": [""], "perl": [""]}, "note", "may survive a stop", "install python3"),
        ({"inotify_instances": ["8"]}, "note", "only 8 inotify", "sysctl"),
        ({"descriptors": ["256"]}, "note", "only 256 open files", "ulimit"),
        ({"descriptors": ["unlimited"], "free_kib": ["1000"]}, "bad", "0.0 GiB", "make room"),
        ({"state_unwritable": ["/x"]}, "bad", "/x is not writable", "XDG_STATE_HOME"),
        ({"kill_user_processes": ["yes"]}, "bad", "KillUserProcesses", "enable-linger"),
        ({"download": []}, "note", "no downloads", "curl"),
        ({"claude": []}, "note", "claude is not installed", "npm install"),
        ({"claude_login": ["none"]}, "note", "not logged in", "--env ANTHROPIC_API_KEY"),
        ({"agent_out": ["codex"]}, "note", "codex is there, not logged in", "OPENAI_API_KEY"),
        ({"withheld": ["A_KEY", "B_KEY"]}, "note", "A_KEY, B_KEY: set at login", "--env NAME"),
        ({"profile_key": ["GH_TOKEN ~/.zshrc"]}, "note", "GH_TOKEN: set in ~/.zshrc", "--env-file"),
    ],
)
def test_each_lack_is_told_with_how_to_mend_it(
    facts: dict[str, Any], state: str, told: str, mend: str
) -> None:
    found = [one for one in findings(**facts) if told in one.words]
    assert [one.state for one in found] == [state]
    assert mend in found[0].mend
    assert found[0].code == (1 if state == "bad" else 0)


def test_what_a_host_says_cannot_act_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "\x1b[2J"

    async def there(_: object) -> list[Finding]:
        return findings(agent_out=[odd], missing=[odd], profile_key=[f"{odd} {odd}"])

    monkeypatch.setattr(doctor, "_there", there)
    assert run_command(["doctor"]) == 1
    told = capsys.readouterr().out
    assert odd not in told
    assert told.count(r"\x1b[2J") == 5


def test_options_of_ssh_that_do_nothing_here_are_named_with_their_line(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host box\n  User me\n  ControlMaster=auto\n\n  forwardagent yes\n")
    found = list(ignored_options(config))
    assert [one.words for one in found] == [
        f"{config}:3: ControlMaster is ignored",
        f"{config}:5: forwardagent is ignored",
    ]
    assert list(ignored_options(tmp_path / "none")) == []


def test_a_host_that_takes_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.01)
    assert run_command(["doctor"]) == 4
    assert "did not answer all questions" in capsys.readouterr().out
