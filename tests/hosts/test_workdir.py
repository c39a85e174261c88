"""Task directories: what is ours is emptied and removed, what is the user's stays."""
# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from optio_agents.errors import FileRefused, WorkDirRefused
from optio_agents.hosts.host import Host, LocalHost
from optio_agents.hosts.workdir import open_channel
from tests.support.components import needs
from tests.support.hosts.hosts import Ground, both_ways, every_kind, usual_kinds
from tests.support.timeouts import BOUND


def names(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


def here(tmp_path: Path, workdir: Path | None = None, name: str = "task") -> Host:
    return Ground("local", tmp_path, None, None).host(name, workdir=workdir and str(workdir))


@every_kind
async def test_a_clean_start_makes_the_directories_and_empties_what_is_ours(ground: Ground) -> None:
    async with ground.host("a 'task' $HOME;") as host:
        await host.setup_workdir()
        assert Path(host.taskdir).stat().st_mode & 0o777 == 0o700
        assert names(host.workdir) == []
        await host.run_command(
            "mkdir -p a/b; echo x > a/b/c; ln -s / root; mkfifo pipe; touch -- -rf"
        )
        await host.setup_workdir()
        assert names(host.workdir) == []


@every_kind
async def test_the_channel_is_opened_as_the_scripts_do_it(ground: Ground) -> None:
    for name in ("new", "new below/this", "old"):
        async with ground.host(name) as host:
            if name == "old":
                await host.setup_workdir()
                await host.run_command("mkdir ../session; echo x >optio.log; mkfifo deliverables")
            real = await open_channel(host, "start", set_up=True)
            assert real == os.path.realpath(host.workdir)
            assert names(host.taskdir) == [".optio-task", "workdir"]
            assert names(host.workdir) == ["deliverables", "optio.log"]
            assert Path(host.workdir, "optio.log").read_bytes() == b""
            modes = [Path(host.taskdir, name).stat().st_mode & 0o777 for name in _MADE]
            assert modes == [0o700, 0o600, 0o755, 0o755, 0o644]


_MADE = (".", ".optio-task", "workdir", "workdir/deliverables", "workdir/optio.log")


async def test_who_lives_on_without_its_directory_keeps_the_place(tmp_path: Path) -> None:
    async with here(tmp_path) as host:
        log = f"{host.workdir}/optio.log"
        with subprocess.Popen(["sleep", "900"], env={"OPTIO_LOG": log}) as left:  # noqa: ASYNC220
            with pytest.raises(WorkDirRefused, match=str(left.pid)):
                await open_channel(host, "start", set_up=True)
            left.kill()
        assert await open_channel(host, "start", set_up=True) == host.workdir


@usual_kinds
async def test_what_took_away_its_own_rights_is_emptied_too(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command("mkdir -p a/b/c; echo x > a/b/c/d; chmod 0 a/b/c; chmod 500 a/b a")
        await host.setup_workdir()
        assert names(host.workdir) == []


@usual_kinds
async def test_cleaning_removes_what_was_made_and_nothing_else(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command("echo x > x; mkdir ../session; echo y > ../mine")
        await host.cleanup_taskdir()
        assert names(host.taskdir) == ["mine"]
        Path(host.taskdir, "mine").unlink()
        await host.setup_workdir()
        await host.cleanup_taskdir(aggressive=False)
        assert not Path(host.taskdir).exists()
        await host.cleanup_taskdir()


@usual_kinds
@pytest.mark.parametrize("name", ["workdir", "session"])
async def test_what_is_not_ours_is_left_alone(ground: Ground, name: str) -> None:
    precious = ground.directory / "task" / name / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("thesis")
    for path in (ground.directory / "task", precious.parent, precious):
        ground.give(path)
    async with ground.host() as host:
        for verb in (host.setup_workdir, host.cleanup_taskdir):
            with pytest.raises(WorkDirRefused, match=r"not made by optio-agents"):
                await verb()
        await host.cleanup_taskdir(aggressive=True)
    assert precious.read_text() == "thesis"


@usual_kinds
async def test_an_empty_directory_may_be_taken_over(ground: Ground) -> None:
    task = ground.directory / "task"
    for path in (task, task / "workdir"):
        path.mkdir()
        ground.give(path)
    async with ground.ready() as host:
        assert names(host.workdir) == []


@both_ways
@pytest.mark.parametrize("name", ["", "workdir", ".optio-task"])
async def test_links_are_not_followed(ground: Ground, name: str) -> None:
    elsewhere = ground.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("thesis")
    link = Path(ground.directory, "task", name)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(elsewhere)
    async with ground.host() as host:
        with pytest.raises(WorkDirRefused):
            await host.setup_workdir()
        with pytest.raises(WorkDirRefused):
            await host.cleanup_taskdir()
    assert names(elsewhere) == ["precious"]


@both_ways
async def test_a_work_directory_that_became_a_link_is_unlinked(ground: Ground) -> None:
    elsewhere = ground.directory / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("thesis")
    async with ground.ready() as host:
        Path(host.workdir).rmdir()
        Path(host.workdir).symlink_to(elsewhere)
        await host.setup_workdir()
        assert not Path(host.workdir).is_symlink()
    assert names(elsewhere) == ["precious"]


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
@both_ways
async def test_a_directory_of_somebody_else_is_refused(ground: Ground) -> None:
    task = ground.directory / "task"
    task.mkdir()
    os.chown(task, 12345, 12345)
    async with ground.host() as host:
        with pytest.raises(WorkDirRefused, match="belongs to another user"):
            await host.setup_workdir()
        os.chown(task, 0, 0)
        task.chmod(0o777)
        (task / "planted").touch()
        with pytest.raises(WorkDirRefused, match="written to by others"):
            await host.setup_workdir()
        (task / "planted").unlink()
        await host.setup_workdir()
        assert task.stat().st_mode & 0o777 == 0o700


@usual_kinds
async def test_an_agent_that_lives_keeps_its_directory(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command("mkdir -p ../session; echo x > x")
        # "PID START BOOT", as the launcher writes it
        start = "set -- $(sed 's/.*) //' /proc/$$/stat); echo $$ ${20}"
        whole = f"{start} $(cat /proc/sys/kernel/random/boot_id)"
        handle = await host.launch_subprocess(f"({whole}) > ../session/pid; echo up; sleep 900")
        assert await anext(handle.stdout) == b"up\n"
        for verb in (host.setup_workdir, host.cleanup_taskdir):
            with pytest.raises(WorkDirRefused, match="still lives in"):
                await verb()
        assert names(host.workdir) == ["x"]
        await host.terminate_subprocess(handle, aggressive=True)
        await host.setup_workdir()
        assert names(host.taskdir) == [".optio-task", "workdir"]


@both_ways
async def test_a_pid_that_was_reused_is_no_agent(ground: Ground) -> None:
    async with ground.ready() as host:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        for line in (f"{os.getpid()} 1 {boot}", f"{os.getpid()} 1 another-boot", "", "nonsense"):
            await host.run_command(
                'mkdir -p ../session; printf "%s\n" "$L" > ../session/pid', env={"L": line}
            )
            await host.setup_workdir()


# A directory of the user's


@usual_kinds
async def test_in_the_users_directory_one_is_made_and_nothing_is_touched(ground: Ground) -> None:
    mine = ground.give(_made(ground.directory / "my work"))
    for name in ("CLAUDE.md", "optio.log", "thesis.tex"):
        (mine / name).write_text(name)
    (mine / "deliverables").mkdir()
    before = {path: path.stat() for path in mine.iterdir()}
    async with ground.host(workdir=str(mine)) as host:
        assert host.logdir == f"{mine}/.optio/{Path(host.taskdir).name}"
        for _ in range(2):  # its own session may start again
            await host.setup_workdir()
            await host.ask("hosts/channel.sh", host.logdir, "start")
            assert names(Path(host.logdir)) == ["deliverables", "optio.log"]
        assert {path: path.stat() for path in before} == before
        assert names(mine / ".optio") == [".gitignore", Path(host.logdir).name]
        Path(host.logdir, "optio.log").write_text("STATUS: x\n")
        await host.cleanup_taskdir()
        assert not Path(host.taskdir).exists()
    assert {path: path.stat() for path in mine.iterdir()} == before


@usual_kinds
async def test_a_refused_run_leaves_nothing_behind(ground: Ground) -> None:
    mine = ground.give(_made(ground.directory / "mine"))
    (mine / "elsewhere").mkdir()
    (mine / ".optio").symlink_to("elsewhere")
    for workdir, why in ((mine, ".optio cannot be made"), (mine / "no", "cannot be entered")):
        async with ground.host("another", workdir=str(workdir)) as host:
            with pytest.raises(WorkDirRefused, match=why):
                await host.setup_workdir()
            assert not Path(host.taskdir).exists()
    assert names(mine) == [".optio", "elsewhere"]
    assert names(mine / "elsewhere") == []


async def test_one_directory_takes_any_number_of_sessions(tmp_path: Path) -> None:
    mine = _made(tmp_path / "mine")
    async with here(tmp_path, mine) as first, here(tmp_path, mine, "second") as second:
        for host in (first, second):
            await host.setup_workdir()
            await host.ask("hosts/channel.sh", host.logdir, "start")
        Path(second.logdir, "deliverables", "report").write_text("x")
        for name in "uploads", "attached":  # of a file that was never brought whole
            Path(first.logdir, name).mkdir()
        await first.cleanup_taskdir()
        assert names(mine / ".optio") == [".gitignore", "second"]
        await second.cleanup_taskdir()
    assert names(Path(second.logdir)) == ["deliverables"]  # what was handed over stays


async def test_another_session_of_the_same_name_is_refused(tmp_path: Path) -> None:
    mine = _made(tmp_path / "mine")
    async with here(tmp_path, mine) as first, here(tmp_path / "b", mine) as second:
        await first.setup_workdir()
        with pytest.raises(WorkDirRefused, match="not this session's"):
            await second.setup_workdir()
        Path(first.taskdir, "claimed").unlink()  # as after a crash between the two
        with pytest.raises(WorkDirRefused, match="not this session's"):
            await first.setup_workdir()


async def test_git_does_not_see_it(tmp_path: Path) -> None:
    needs("git")
    repository = tmp_path / "repository"
    _git(tmp_path, "init", "-q", str(repository))
    (repository / "uncommitted").write_text("x")
    before = _git(repository, "status", "--porcelain", "-uall", "--ignored")
    async with here(tmp_path, repository) as host:
        await host.setup_workdir()
        Path(host.logdir, "report").write_text("x")
        seen = _git(repository, "status", "--porcelain", "-uall")
        assert seen == _git(repository, "status", "--porcelain", "-uall", "--", ":!.optio")
        Path(host.logdir, "report").unlink()
        await host.cleanup_taskdir()
    assert _git(repository, "status", "--porcelain", "-uall", "--ignored") == before


async def test_what_version_0_3_2_made_there_is_taken_back(tmp_path: Path) -> None:
    needs("git")
    mine = tmp_path / "mine"
    _git(tmp_path, "init", "-q", str(mine))
    exclude = mine / ".git" / "info" / "exclude"
    exclude.write_text("*.bak\n/optio.log\n/deliverables/\n")
    task = _made(tmp_path / "task")
    task.chmod(0o700)
    (task / ".optio-task").touch()
    (task / "ignored").write_text("/optio.log\n/deliverables/\n")
    (task / "claimed").write_text(f"{mine.stat().st_dev}:{mine.stat().st_ino}\n")
    (mine / "optio.log").write_text("DONE\n")
    (mine / "deliverables").mkdir()
    async with LocalHost(str(task), workdir=str(mine), logdir=str(mine)) as host:
        await host.cleanup_taskdir()
    assert not task.exists()
    assert names(mine) == [".git"]
    assert exclude.read_text() == "*.bak\n"


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _git(where: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *who, *words],
        cwd=where,
        env=environment,
        check=True,
        capture_output=True,
        timeout=BOUND,
    )
    return done.stdout.decode()


@both_ways
async def test_what_is_written_below_the_work_directory_stays_there(ground: Ground) -> None:
    """A directory on the way may be a link of the agent's."""
    outside = ground.directory / "outside"
    async with ground.host("task") as host:
        await host.setup_workdir()
        await host.ask('mkdir "$1"; ln -s "$1" "$2/out"; mkdir "$2/in"', str(outside), host.workdir)
        for path in "out/x", "out/new/x", "in/../out/x", "../x":
            with pytest.raises(FileRefused, match="leads out"):
                await host.write_text(path, "mine")
        await host.write_text("in/new/x", "mine")
        assert (await host.fetch_bytes_from_host("in/new/x")) == b"mine"
        assert names(outside) == []


@both_ways
async def test_to_remove_a_link_changes_nothing_where_it_leads(ground: Ground) -> None:
    """Also where the agent has locked the directory in which it stands."""
    outside = ground.directory / "outside"
    async with ground.host("task") as host:
        await host.setup_workdir()
        swap = 'mkdir "$1"; : >"$1/x"; chmod 400 "$1/x"; rm -r workdir; ln -s "$1" workdir'
        await host.ask(f'cd "$2" && {swap}; chmod 500 .', str(outside), host.taskdir)
        await host.cleanup_taskdir()
        assert (outside / "x").stat().st_mode & 0o777 == 0o400
        assert not Path(host.taskdir).exists()
