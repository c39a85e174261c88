"""Where settings come from: flags, then the environment, then config.toml, which is checked."""

from pathlib import Path
from typing import Any

import click
import pytest

import optio_agents
from optio_agents.cli.app import CONFIGURED, VERBS, app, run_command
from optio_agents.cli.options import named_environment, split_remote, ssh_of
from optio_agents.cli.settings import RunSettings, Settings
from tests.support.terminal import Desk


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's config.toml, which does not exist yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "optio-agents" / "config.toml"
    path.parent.mkdir()
    return path


def chosen(*words: str) -> dict[str, Any]:
    """What the verb in *words* would be called with."""
    seen: dict[str, Any] = {}
    verb = app.get_command(click.Context(app), words[0])
    assert verb is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "invoke", lambda ctx: seen.update(ctx.params))
        assert run_command(words) == 0
    return seen


FILE = """\
notify = "from the file"
stall_after = 60
host_key = "accept-new"

[run]
model = "file-model"
permission = "deny"
env = ["ONE", "TWO"]
stop_on_exit = true
"""


def test_without_a_file_each_flag_has_its_default(settings: Path) -> None:
    assert chosen("run", "x")["host_key"] == "strict"


def test_the_file_gives_defaults_to_each_verb_that_knows_them(settings: Path) -> None:
    settings.write_text(FILE)
    run = chosen("run", "x")
    assert (run["notify"], run["stall_after"], run["model"]) == ("from the file", 60, "file-model")
    assert (run["env"], run["stop_on_exit"], run["permission"]) == (("ONE", "TWO"), True, "deny")
    demo = chosen("demo")
    assert (demo["notify"], demo["stop_on_exit"], demo["host_key"]) == (
        "from the file",
        False,
        "accept-new",
    )
    assert chosen("watch", "x")["host_key"] == "accept-new"


def test_the_environment_wins_over_the_file_and_a_flag_over_both(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text(FILE)
    monkeypatch.setenv("OPTIO_AGENTS_NOTIFY", "from the environment")
    monkeypatch.setenv("OPTIO_AGENTS_RUN_MODEL", "env-model")
    monkeypatch.setenv("OPTIO_AGENTS_STALL_AFTER", "30")
    run = chosen("run", "--model", "flag-model", "x")
    assert (run["notify"], run["model"], run["stall_after"]) == (
        "from the environment",
        "flag-model",
        30,
    )
    assert chosen("run", "x")["model"] == "env-model"


def test_the_page_has_settings_of_its_own(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = 'listen = "127.0.0.1:80"\ntoken_file = "t"\nurl = "https://box.example"\n'
    settings.write_text(f'notify = "x"\n[page]\n{page}')
    found = chosen("serve")
    assert (found["listen"], found["token_file"]) == ("127.0.0.1:80", Path("t"))
    assert found["url"] == "https://box.example"
    assert chosen("serve", "--listen", "127.0.0.1:0")["listen"] == "127.0.0.1:0"
    monkeypatch.setenv("OPTIO_AGENTS_PAGE", "https://other.example")
    assert chosen("serve")["url"] == "https://other.example"
    assert chosen("run", "x")["notify"] == "x"


def test_a_model_in_the_settings_does_not_keep_a_command_from_running(desk: Desk) -> None:
    file = desk.home / ".config" / "optio-agents" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[run]\nmodel = 'opus'\n")
    assert desk.run("run", "--", "agent", "DONE").returncode == 0
    assert desk.run("run", "--model", "opus", "--", "agent", "DONE").returncode == 2


# what belongs to one run, and would be wrong for the next
OF_ONE_RUN = {
    *("prompt", "title", "name", "detach", "as_lines"),
    *("worktree", "attach", "end_input", "continues", "fork"),
}


def test_every_flag_of_run_is_a_setting_unless_it_is_of_one_run_alone() -> None:
    run = app.get_command(click.Context(app), "run")
    assert run is not None
    settings = {*RunSettings.model_fields, *Settings.model_fields} - {"run", "targets"}
    assert {option.name for option in run.params} - OF_ONE_RUN == settings


def test_what_holds_for_every_session_is_set_once_and_a_flag_takes_it_back(desk: Desk) -> None:
    file = desk.home / ".config" / "optio-agents" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[run]\nverify = 'false'\nverify_tries = 1\nrestart = 1\n")
    assert desk.run("run", "--", "agent", "DONE").returncode == 8
    assert desk.run("run", "--verify", "", "--", "agent", "DONE").returncode == 0
    dies = ("run [ -e died ] || { touch died; kill -9 $$; }", "DONE")
    assert desk.run("run", "--verify", "", "--restart", "0", "--", "agent", *dies).returncode == 3
    assert desk.run("run", "--verify", "", "--", "agent", *dies).returncode == 0


def test_every_setting_is_a_flag_with_a_variable_of_its_name() -> None:
    run = app.get_command(click.Context(app), "run")
    assert run is not None
    assert set(CONFIGURED) <= set(VERBS)
    flags = {option.name: option for option in run.params}
    for table, prefix in (Settings, "OPTIO_AGENTS_"), (RunSettings, "OPTIO_AGENTS_RUN_"):
        for name in set(table.model_fields) - {"run", "page", "targets"}:
            context = run.make_context("run", ["x"])
            wanted = f"{prefix}{name.upper()}"
            option = flags[name]
            found = option.envvar or f"{context.auto_envvar_prefix}_{name.upper()}"
            assert found == wanted


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("notify = 1\n", ":1: notify: this is a text, in quotes"),
        ("\n\n[run]\n\nmodle = 'x'\n", ":5: run.modle: there is no such setting; maybe model"),
        ("# x\nstall_after = -1\n", ":2: stall_after: this is more than 0"),
        ("[run]\nrestart = 1.5\n", ":2: run.restart: this is a whole number"),
        ("[run]\npermission = 'never'\n", ":2: run.permission: this is one of 'ask', "),
        ("[run]\nenv = [\n  'A',\n  7,\n]\n", ":2: run.env.1: this is a text, in quotes"),
        ("run = 3\n", ":1: run: this is a table"),
        ("targets = ['a://hush']\n", ":1: targets: this is a table"),
        ("notify = \n", ":1: this is no TOML: Invalid value"),
        ("# x\n[run", ":2: this is no TOML: "),
        ("permission = 'ask'\n", ":1: permission: this belongs below [run]"),
        ("[run]\nlisten = 'x:1'\n", ":2: run.listen: this belongs below [page]"),
        ("[page]\nlisten = '87'\n", ":2: page.listen: this is ADDRESS:PORT, as in "),
        ("[page]\nurl = 'box'\n", ":2: page.url: this begins with http"),
        (
            "[page]\ntokenfile = 'x'\n",
            ":2: page.tokenfile: there is no such setting; maybe token_file",
        ),
        ("[run]\nnotify = 'x'\n", ":2: run.notify: this belongs at the top, in front of "),
    ],
)
def test_a_mistake_is_told_with_file_and_line(
    text: str, told: str, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(text)
    assert run_command(["ls"]) == 2
    assert f"optio-agents: {settings}{told}" in capsys.readouterr().err
    assert run_command(["prompt"]) == 0  # which has no settings


def test_all_mistakes_are_told_at_once(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings.write_text("stall_after = 'x'\nnotfy = 'y'\n\n[run]\nallow = 'Bash'\n")
    assert run_command(["ls"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split(str(settings))[-1] for line in told] == [
        ":1: stall_after: this is a number",
        ":2: notfy: there is no such setting; maybe notify",
        ':5: run.allow: this is a list, as in ["a", "b"]',
    ]


def test_a_file_that_cannot_be_read_is_told(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_bytes(b"\xff\xfe")
    assert run_command(["ls"]) == 2
    assert f"{settings} cannot be read" in capsys.readouterr().err


def test_the_example_of_the_guide_is_valid(settings: Path) -> None:
    page = (Path(optio_agents.__file__).parent / "guide/operating.md").read_text()
    settings.write_text(page.partition("```toml\n")[2].partition("```")[0])
    assert chosen("run", "x")["notify"].startswith("ntfys://")


# Variables for the agent


def test_variables_are_handed_over_by_name_alone(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# mine\n\nexport A_TOKEN=x=y\nB=2\n")
    ours = {"API_KEY": "secret", "B": "ours"}
    given = named_environment(["API_KEY", "LANG=C"], file, ours)
    assert given == {"API_KEY": "secret", "LANG": "C", "A_TOKEN": "x=y", "B": "2"}
    assert named_environment(["B"], file, ours)["B"] == "ours"


@pytest.mark.parametrize("name", ["API_KEY", "GITHUB_TOKEN", "db_password", "MY_SECRET_X"])
def test_a_credential_does_not_stand_in_a_command_line(name: str) -> None:
    with pytest.raises(click.BadParameter, match="looks like a credential") as caught:
        named_environment([f"{name}=hunter2"], None, {})
    assert "hunter2" not in str(caught.value)
    assert f"--env {name}" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "told"),
    [("GONE", "there is no such variable here"), ("1X=2", "cannot be the name"), ("=x", "cannot")],
)
def test_a_variable_that_cannot_be_is_told(word: str, told: str) -> None:
    with pytest.raises(click.BadParameter, match=told):
        named_environment([word], None, {})


def test_a_bad_line_of_a_file_is_told_without_its_value(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\njust words\n")
    with pytest.raises(click.BadParameter, match=r"env:2: ") as caught:
        named_environment([], file, {})
    file.write_text("SECRET\n")
    with pytest.raises(click.BadParameter, match="say NAME=VALUE"):
        named_environment([], file, {})
    assert "A=1" not in str(caught.value)


# Places


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("box", None, "box", None),
        ("me@box", "me", "box", None),
        ("me@box:2222", "me", "box", 2222),
        ("[::1]:22", None, "::1", 22),
    ],
)
def test_a_host_is_read_as_people_type_it(
    text: str, user: str | None, host: str, port: int | None
) -> None:
    ssh = ssh_of(text, policy="accept-new")
    assert (ssh.user, ssh.host, ssh.port, ssh.host_key_policy) == (user, host, port, "accept-new")


@pytest.mark.parametrize("text", ["", "a b", "box:port", "-oProxyCommand=x", "box:99999", "a@b/c"])
def test_what_is_no_host_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter):
        ssh_of(text)


@pytest.mark.parametrize(
    ("text", "where", "path"),
    [
        ("optio.log", None, "optio.log"),
        ("./a:b", None, "./a:b"),
        ("/x/y:z", None, "/x/y:z"),
        ("me@box:work/optio.log", "me@box", "work/optio.log"),
        ("box:3f2a", "box", "3f2a"),
        ("me@box:2222:/x", "me@box:2222", "/x"),
        ("[::1]:/x", "[::1]", "/x"),
        ("c:file", None, "c:file"),
    ],
)
def test_a_path_on_a_host_is_read_as_scp_has_it(text: str, where: str | None, path: str) -> None:
    assert split_remote(text) == (where, path)
