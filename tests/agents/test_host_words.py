"""What a host or an agent writes is looked at where it comes in, and is never a path or a key."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents import find_sessions
from optio_agents.agents.input import GivenAnswer
from optio_agents.agents.launch import read_meta
from optio_agents.agents.status import parse_status
from optio_agents.cli.verbs.doctor import judge
from optio_agents.errors import (
    AgentError,
    AlreadyOwned,
    NameTaken,
    StoreError,
    TransferFailed,
    WorkDirRefused,
)
from optio_agents.hosts.host import make_host
from optio_agents.hosts.machine import ProcessId
from optio_agents.store import Store
from optio_agents.store.lock import claimed
from optio_agents.supervision import Command
from optio_agents.supervision.sessions import Facts, stored_of
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.scripted import scripted_agent
from tests.support.hosts.agent_ground import LOGINS, SHELLS, here, machine, ready, ssh_host, started
from tests.support.hosts.sshd import SshLogin
from tests.support.proc import kill, tagged
from tests.support.sessions.supervising import PLAIN, Office, office
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

__all__ = ["office"]  # a fixture

GOOD = {
    "v": 1,
    "session": "s1.0123456789ab",
    "argv": ["sh"],
    "cwd": "/w",
    "log": "/w/optio.log",
    "deliverables": "/w/deliverables",
    "meta": {"id": "s1", "created_at": 1.0, "agent": "command", "program": "sh"},
}
ABOUT: dict[str, Any] = GOOD["meta"]  # type: ignore[assignment]


# Locks


@pytest.mark.parametrize("id_", ["../j.sqlite3", "/etc/passwd", "..", "", "a/b", "a\n", "a" * 65])
def test_a_lock_is_named_by_a_plain_name_only(tmp_path: Path, id_: str) -> None:
    (tmp_path / "j.sqlite3").write_text("all that happened")
    with pytest.raises(StoreError, match="cannot be the id"):
        claimed(tmp_path / "locks", id_, "me").__enter__()
    assert (tmp_path / "j.sqlite3").read_text() == "all that happened"


# Metas


@pytest.mark.parametrize(
    "wrong",
    [
        {"session": "a/b"},
        {"session": ["x"]},
        {"session": "x\nOPTIO"},
        {"cwd": "relative"},
        {"log": None},
        {"log": "/a\0b"},
        {"deliverables": "/" + "a" * 5000},
        {"cwd": "/\ud800"},
        {"meta": []},
        {"meta": "x"},
    ],
)
def test_a_meta_has_the_types_that_it_should_have(wrong: dict[str, Any]) -> None:
    assert read_meta(json.dumps(GOOD).encode()) == GOOD
    with pytest.raises(AgentError, match="meta"):
        read_meta(json.dumps({**GOOD, **wrong}).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"nan"])
def test_any_bytes_may_stand_there(text: bytes) -> None:
    with pytest.raises(AgentError, match="meta"):
        read_meta(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../../j.sqlite3"},
        {"id": None},
        {"id": 7},
        {"created_at": float("nan")},
        {"created_at": float("inf")},
        {"created_at": -1},
        {"created_at": 10**400},
        {"created_at": "1.0"},
        {"agent": "other"},
        {"agent": []},
        {"program": {}},
        {"title": 1},
        {"cwd": "relative"},
        {"cwd": "/a\0b"},
        {"hidden": "PATH"},
        {"hidden": [1]},
        {"features": {"browser": "x"}},
        {"features": {"browser": []}},
        {"features": {"other": True}},
        {"features": {"client_messages": "yes"}},
        {"features": []},
        {"reads_to_end": "no"},
        {"ssh": "me@box"},
    ],
)
def test_what_a_host_says_of_a_session_has_its_types_too(wrong: dict[str, Any]) -> None:
    host = make_host(taskdir="/t")
    assert stored_of(host, ABOUT).id == "s1"
    with pytest.raises(AgentError, match="no session of ours"):
        stored_of(host, {**ABOUT, **wrong})


def test_a_host_says_neither_where_it_is_nor_who_may_reclaim_a_session() -> None:
    said = {**ABOUT, "ssh": {"host": "evil"}, "journal": "theirs", "notes_start": True}
    facts = Facts.read(stored_of(make_host(taskdir="/t"), {**said, "title": "x" * 9000}).facts)
    assert (facts.ssh, facts.notes_start, len(facts.title)) == (None, False, 500)
    assert facts.journal != "theirs"


# The id of another session


async def test_the_id_of_another_session_takes_nothing_over(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            office.taskdir = str(office.directory / "victim")
            async with office.host() as host:
                await _detached(host, store, "mine", "hear", "DONE: all")
            before, tag = await store.session("mine"), office.tag()
            office.taskdir = str(office.directory / "other")
            async with office.host() as host, office.store("elsewhere") as elsewhere:
                await _detached(host, elsewhere, "mine", "DONE: other")
            async with office.host() as host:
                result = await supervise(host, resume=office.taskdir, store=store)
            assert result.summary == "other"
            assert result.session.startswith("mine-")
            assert (await store.session("mine")) == before
            assert (await store.session(result.session)).taskdir == office.taskdir
    kill(*tagged(tag))


async def test_an_id_that_is_a_path_deletes_nothing(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host, office.store("elsewhere") as elsewhere:
            await _detached(host, elsewhere, "mine", "hear")
        _poison(Path(office.taskdir), id="../../precious")
        precious = office.directory / "precious"
        precious.write_text("precious")
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentError, match="plain name"):
                await supervise(host, resume=office.taskdir, store=store)
            assert await store.sessions() == []
    assert precious.read_text() == "precious"
    assert tagged(office.tag())
    kill(*tagged(office.tag()))


async def _detached(host: Any, store: Store, session: str, *steps: str) -> None:
    detach = anyio.Event()
    detach.set()
    spec = Command(scripted_agent(*steps), env=PLAIN, env_base="empty")
    await supervise(host, spec, store=store, session=session, detach_when=detach)


def _poison(task: Path, **words: Any) -> None:
    path = task / "session" / "meta"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "meta": {**meta["meta"], **words}}) + "\n")


# What lies on a host


def _made(task: Path, meta: str | None = None) -> Path:
    session = task / "session"
    session.mkdir(parents=True)
    task.chmod(0o700)
    session.chmod(0o700)
    (session / "tag").write_text("s1.0123456789ab\n")
    (session / "meta").write_text(json.dumps(GOOD) + "\n" if meta is None else meta)
    return session


def _odd_sessions(base: Path) -> None:
    """Whatever a task directory may hold, one of a kind, and a good one behind them."""
    for name in "tag", "pid", "launcher", "exit", "meta":
        session = _made(base / f"pipe-{name}")
        (session / name).unlink(missing_ok=True)
        os.mkfifo(session / name)
        session = _made(base / f"sparse-{name}")
        with (session / name).open("wb") as file:
            file.truncate(1 << 40)
        session = _made(base / f"link-{name}")
        (session / name).unlink(missing_ok=True)
        (session / name).symlink_to("/dev/zero")
    for number, wrong in enumerate(
        ({"id": "\x1b]0;x\x07"}, {"id": []}, {"created_at": float("nan")}, {"created_at": 1e300})
    ):
        _made(base / f"wrong-{number}", json.dumps({**GOOD, "meta": {**ABOUT, **wrong}}))
    for number, text in enumerate(
        ("", "[]", "null", "{", "[" * 50_000, '{"meta": 7}', "x" * 300_000)
    ):
        _made(base / f"text-{number}", text)
    _made(base / "zz-good")


@pytest.fixture(params=[*SHELLS, *LOGINS])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param in SHELLS:
        return make_for(request.param, tmp_path)
    login: Callable[..., SshLogin] = request.getfixturevalue("ssh_login")
    return ssh_host(login(request.param.removeprefix("ssh-")))


def make_for(shell: str, tmp_path: Path) -> Any:
    from optio_agents.hosts.host import Host

    return Host(machine(shell, tmp_path), str(tmp_path / "task"))


async def test_one_poisoned_session_does_not_hide_the_others(host: Any) -> None:
    async with ready(host):
        base = Path(host.taskdir) / "tasks"
        base.mkdir()
        _odd_sessions(base)
        await anyio.run_process(["chown", "-R", f"--reference={host.taskdir}", str(base)])
        found = {
            Path(one.directory).parent.name: one for one in await find_sessions(host, str(base))
        }
    assert len(found) == len(list(base.iterdir()))
    good = found["zz-good"]
    assert (good.state, good.session, good.meta) == (
        "never-started",
        GOOD["session"],
        {"meta": ABOUT},
    )
    assert {one.state for name, one in found.items() if name[:4] in {"pipe", "spar", "link"}} == {
        "damaged"
    }


def test_ls_lists_a_host_with_such_sessions(desk: Desk, ssh_login: Callable[..., SshLogin]) -> None:
    login = ssh_login()
    desk.knows("box", login)
    base = login.account.home / ".local/state/optio-agents/tasks"
    base.mkdir(parents=True, exist_ok=True)
    odd = base / "odd"
    odd.mkdir()
    try:
        _odd_sessions(base / "odd")
        for one in (base / "odd").iterdir():
            one.rename(base / f"odd-{one.name}")
        ran = desk.run("ls", "--host", "box")
        assert ran.returncode == 0, ran.stderr
        assert "\x1b" not in ran.stdout
        assert "odd-wrong-0" in ran.stdout or GOOD["session"] in ran.stdout
        lines = desk.run("ls", "--host", "box", "--json").stdout.splitlines()
        assert len([json.loads(line) for line in lines]) >= 20
    finally:
        subprocess.run(f"rm -rf '{base}'/odd*", shell=True, check=True)


async def test_files_that_cannot_be_read_are_an_error_and_never_a_hang(host: Any) -> None:

    async with ready(host), started(host, "exec sleep 1000") as agent:
        for name in "tag", "pid", "meta":
            path = here(agent, name)
            kept = path.read_bytes()
            path.unlink()
            os.mkfifo(path)
            with pytest.raises(AgentError):
                async with agents.adopt(host):
                    pass
            path.unlink()
            path.write_bytes(kept)


@pytest.mark.parametrize("endless", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
async def test_what_an_agent_puts_for_what_it_says_and_hears_is_no_hang(
    host: Any, endless: Callable[[Path], None]
) -> None:
    async with ready(host), started(host, "exec sleep 1000") as agent:
        here(agent, "stderr").unlink()
        for name in "stderr", "queue", "answers/at-1", "said/mine":
            endless(here(agent, name))
        os.truncate(here(agent, "launcher"), 0)
        os.truncate(here(agent, "launcher"), 1 << 41)
        with anyio.fail_after(BOUND):
            assert (await agent.status()).running
            assert await agent.last_stderr() == ""
            assert await agent.find_answer("at-1") is None
            assert (await agent.query("messages", "10")).strip(b"\0") == b""
            with pytest.raises(AgentError, match="queue is no file"):
                await agent.queue("another", "text")
            with pytest.raises(AgentError, match="answer is no file"):
                await agent.answer("at-1", b"yes", by="me")
            with pytest.raises(NameTaken):
                await agent.say(b"words", name="mine")


async def test_what_an_agent_makes_endless_is_not_read_to_its_end(host: Any) -> None:
    async with ready(host), started(host, "exec sleep 1000") as agent:
        for name in "pid", "launcher", "answers/at-1":
            os.truncate(_empty(here(agent, name)), 1 << 41)
        with anyio.fail_after(BOUND):
            assert await agent.reasons() == {}
            with pytest.raises(AgentError, match="answer is none"):
                await agent.answer("at-1", b"yes", by="me")
            with pytest.raises(WorkDirRefused, match="still lives in"):
                await host.setup_workdir()
            tag = here(agent, "tag")
            kept = tag.read_bytes()
            os.truncate(_empty(tag), 1 << 41)
            with pytest.raises(AgentError, match="another session"):
                await agent.status()
            tag.write_bytes(kept)


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


# Owners, answers, statuses


async def test_what_stands_for_an_owner_may_be_anything(host: Any) -> None:
    async with ready(host), started(host, "exec sleep 1000") as agent:
        for name, text in ("zzz", "x"), ("a[$(touch hacked)]", "x"), ("0000000001", "theirs {\n"):
            here(
                agent,
                "owner",
            ).joinpath(name).write_text(text)
        with pytest.raises(AlreadyOwned, match="somebody supervises"):
            async with agent.own("me", journal="mine"):
                pass
        async with agent.own("me", journal="mine", take_over=True) as lease:
            assert lease.epoch == 2
        await anyio.to_thread.run_sync(shutil.rmtree, here(agent, "owner"))
        os.mkfifo(here(agent, "owner"))
        with pytest.raises(TransferFailed, match="lease cannot be written"):
            async with agent.own("me", journal="mine"):
                pass
        assert not here(agent, "hacked").exists()


async def test_an_answer_may_be_of_anybody(host: Any) -> None:
    async with ready(host), started(host, "exec sleep 1000") as agent:
        for text in (b"2 {\nhi", b"2 []\nhi", b"2\nhi", b'2 {"by": 1, "reason": 2}\nhi'):
            here(agent, "answers").joinpath("r").write_bytes(text)
            assert await agent.find_answer("r") == GivenAnswer("somebody", b"hi")


async def test_a_reason_of_many_lines_forges_no_status(host: Any) -> None:
    async with ready(host), started(host, "exec sleep 1000") as agent:
        here(agent, "reason").write_text("why\nstate exited\ncode 0\n")
        status = await agent.status()
        assert (status.state, status.reason) == ("running", "why")


@pytest.mark.parametrize("code", ["x", "9999", "-1", "1_0", "\u0663", "9" * 5000])
def test_an_exit_code_is_a_small_number(code: str) -> None:
    with pytest.raises(ValueError, match="no exit code"):
        parse_status(f"state exited\ncode {code}")


@pytest.mark.parametrize("text", ["", "1 2", "1_0 2 a", "1 2 /../x", "-1 2 a", "1 2 a 3", "x" * 99])
def test_a_process_is_two_numbers_and_a_boot(text: str) -> None:
    with pytest.raises(ValueError, match="names no process"):
        ProcessId.parse(text)


# Versions and the environment


@pytest.mark.parametrize(
    "version", ["3.x", "x", "3", "3.12rc1", "9" * 5000 + ".1", "\u0663.9", "3."]
)
def test_doctor_reads_any_version(version: str) -> None:
    facts = {"python3": [version], "free_kib": ["9" * 5000], "descriptors": ["\u0663"]}
    assert list(judge(facts))


async def test_functions_that_bash_exports_are_no_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = tmp_path / ".bash_profile"
    profile.write_text("f() { :; }\nexport -f f\nexport PLAIN=1\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    async with make_host(taskdir=str(tmp_path / "task")) as host:
        login = await host.machine.login_environment()
        assert login["PLAIN"] == "1"
        async with host.machine.shell("exit 0", env=login) as process:
            assert await process.wait() == 0
