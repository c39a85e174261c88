"""A git work tree of its own: the project is left alone, and nothing that was made is lost."""

# ruff: noqa: ASYNC221  # nobody else needs the event loop meanwhile

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.errors import WorkDirRefused
from optio_agents.hosts.host import make_host
from optio_agents.store import Store
from optio_agents.supervision import Command
from optio_agents.supervision.pruning import Pruned, prune
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.scripted import scripted_agent
from tests.support.components import needs
from tests.support.hosts.hosts import Ground, both_ways
from tests.support.sessions.supervising import PLAIN
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

WHO = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
COMMIT = f"git {' '.join(WHO)} commit -q -m more"


class Project:
    """A repository with one commit, and the journal and task directories beside it."""

    def __init__(self, ground: Ground, ours: Path) -> None:
        needs("git")
        self.ground, self.ours = ground, ours
        self.directory = ground.directory / "project"
        self.tree = ground.directory / "task.tree"
        (self.directory / "sub").mkdir(parents=True)
        (self.directory / "sub" / "a.txt").write_text("a\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "first")

    def git(self, *words: str) -> str:
        environment = {**os.environ, "HOME": str(self.ours), "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *WHO, *words],
            cwd=self.directory,
            env=environment,
            check=True,
            capture_output=True,
            timeout=BOUND,
        )
        return done.stdout.decode().strip()

    @property
    def branches(self) -> list[str]:
        return self.git("branch", "--format=%(refname:short)").splitlines()

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        with anyio.fail_after(BOUND):
            async with Store(self.ours / "j.sqlite3") as store:
                yield store

    async def run(
        self, store: Store, *steps: str, below: str = "", branch: str | bool = True, **more: Any
    ) -> Any:
        where = str(self.directory / below)
        taskdir = str(self.ground.directory / "task")
        env = {**PLAIN, "HOME": str(self.ours), **more}
        agent = Command(scripted_agent(*steps, "DONE"), env=env, env_base="empty")
        async with make_host(self.ground.ssh, taskdir=taskdir, workdir=where) as host:
            return await supervise(host, agent, store=store, session="s1", worktree=branch)

    @staticmethod
    async def prune(store: Store) -> Pruned:
        (pruned,) = await prune(store, 0, only=["s1"])
        return pruned

    def nothing_left(self) -> bool:
        """Of a session, on its host."""
        left = {path.name for path in self.ground.directory.iterdir()} & {"task", "task.tree"}
        trees = self.git("worktree", "list").splitlines()
        return (left, self.branches, len(trees)) == (set(), ["main"], 1)


@pytest.fixture
def project(ground: Ground, tmp_path: Path) -> Project:
    ours = tmp_path / "ours"
    ours.mkdir()
    return Project(ground, ours)


@both_ways
async def test_commits_stay_on_the_branch_and_the_project_is_left_alone(project: Project) -> None:
    before = project.git("status", "--porcelain", "--ignored"), project.git("rev-parse", "HEAD")
    async with project.store() as store:
        steps = ("run pwd >b.txt", "run git add b.txt", f"run {COMMIT}", "write d.txt hi")
        await project.run(store, *steps, "DELIVERABLE: deliverables/d.txt", "hear", below="sub")
        assert project.git("show", "optio/s1:sub/b.txt") == f"{project.tree}/sub"
        assert (project.tree / "sub" / ".optio" / "task" / "deliverables" / "d.txt").exists()
        pruned = await project.prune(store)
    assert (pruned.trouble, pruned.branch) == (None, "optio/s1")
    after = project.git("status", "--porcelain", "--ignored"), project.git("rev-parse", "HEAD")
    assert after == before
    assert project.branches == ["main", "optio/s1"]
    assert not project.tree.exists()


@both_ways
async def test_a_tree_in_which_nothing_was_made_goes_with_its_branch(project: Project) -> None:
    async with project.store() as store:
        await project.run(store, branch="fix/it")
        assert "fix/it" in project.branches
        pruned = await project.prune(store)
    assert (pruned.trouble, pruned.branch) == (None, "")
    assert project.nothing_left()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("made", "mended", "why"),
    [
        ("echo b >b.txt", "rm b.txt", "not committed"),
        ("echo b >sub/a.txt", "git checkout -q sub/a.txt", "not committed"),
        ("git rm -q sub/a.txt", "git reset -q --hard", "not committed"),
        (f"git checkout -q --detach; {COMMIT} --allow-empty", "git checkout -q -b it", "no branch"),
        ("rm .git; git init -q .", "rm -rf .git *", "is no work tree of"),
    ],
)
async def test_what_is_committed_nowhere_is_kept(
    project: Project, made: str, mended: str, why: str
) -> None:
    async with project.store() as store:
        await project.run(store, f"run {made}")
        pruned = await project.prune(store)
        assert why in (pruned.trouble or "")
        assert (project.ground.directory / "task" / "session").exists()
        subprocess.run(mended, shell=True, cwd=project.tree, check=True, timeout=BOUND)
        if why == "is no work tree of":
            project.tree.rename(project.ours / "moved")
        assert (await project.prune(store)).trouble is None
    assert not project.tree.exists()


@both_ways
async def test_a_branch_that_was_there_is_taken_up_and_stays(project: Project) -> None:
    project.git("branch", "theirs")
    async with project.store() as store:
        await project.run(store, branch="theirs")
        assert (await project.prune(store)).trouble is None
    assert project.branches == ["main", "theirs"]


@both_ways
@pytest.mark.parametrize(
    ("run", "why"),
    [
        ({"branch": "no..name"}, "cannot be the name of a branch"),
        ({"branch": "main"}, "gets no work tree: .*main"),  # the project has it checked out
        ({"below": "new"}, "cannot be entered"),  # git does not know that directory
        ({"OPTIO_SESSION": "mine", "UID": "1"}, "UID"),
    ],
)
async def test_a_refused_run_leaves_nothing_behind(
    project: Project, run: dict[str, Any], why: str
) -> None:
    (project.directory / "new").mkdir()
    async with project.store() as store:
        with pytest.raises((WorkDirRefused, ValueError), match=why):
            await project.run(store, **run)
        assert await store.sessions() == []
    assert project.nothing_left()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_a_tree_in_which_another_session_works_is_kept(project: Project) -> None:
    async with project.store() as store:
        await project.run(store)
        another = str(project.ground.directory / "another")
        agent = Command(scripted_agent("STATUS: on", "hear"), env=PLAIN, env_base="empty")
        async with (
            make_host(taskdir=another, workdir=str(project.tree)) as host,
            supervise(host, agent, store=store) as session,
        ):
            pruned = await project.prune(store)
            words = f"session {session.id} works in its work tree, and is not over"
            assert pruned.trouble == words
            await session.stop(grace=0.1)
            await session.result()
        assert (await project.prune(store)).trouble is None
    assert not project.tree.exists()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_a_hook_that_fails_refuses_the_run(project: Project) -> None:
    hook = project.directory / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    async with project.store() as store:
        with pytest.raises(WorkDirRefused, match="not today"):
            await project.run(store)
    assert project.nothing_left()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_what_the_agent_has_configured_is_not_run_by_prune(project: Project) -> None:
    program = project.ours / "program"
    program.write_text(f"#!/bin/sh\ntouch {project.ours}/ran\n")
    program.chmod(0o755)
    hook = project.directory / ".git" / "hooks" / "reference-transaction"
    steps = (
        f"run git config core.fsmonitor {program}",
        f"run git config filter.x.clean {program}",
        "run echo '* filter=x' >$(git rev-parse --git-path info/attributes)",
        f"run cp {program} {hook}",
    )
    async with project.store() as store:
        await project.run(store, *steps)
        (project.tree / "sub" / "a.txt").touch()
        (project.ours / "ran").unlink(missing_ok=True)
        assert (await project.prune(store)).trouble is None
    assert not (project.ours / "ran").exists()
    hook.unlink()
    assert project.nothing_left()


async def test_only_a_project_has_work_trees(tmp_path: Path) -> None:
    async with make_host(taskdir=str(tmp_path / "task")) as host:
        with pytest.raises(ValueError, match="in which directory"):
            await supervise(host, Command(["true"]), worktree=True)


@pytest.mark.parametrize(
    ("words", "branch", "title"),
    [
        (("--worktree", "it", "say hi"), "it", "say hi"),
        (("--worktree", "say hi"), "optio/", "say hi"),
        (("say hi", "--worktree"), "optio/", "say hi"),
        (("--worktree", "it", "--", "agent", "DONE"), "it", "agent DONE"),
    ],
)
def test_the_command_takes_a_branch_or_none(
    desk: Desk, words: tuple[str, ...], branch: str, title: str
) -> None:
    needs("git")
    desk.program("claude", 'echo DONE >>"$OPTIO_LOG"\n')
    project = desk.home / "project"
    git = ["git", *WHO, "-C", str(project)]
    for line in (
        ["git", "init", "-q", str(project)],
        [*git, *COMMIT.split()[-4:], "--allow-empty"],
    ):
        subprocess.run(line, check=True, env=desk.env, timeout=BOUND)
    ran = desk.run("run", "--cwd", "project", *words)
    (told,) = map(json.loads, desk.run("ls", "--json").stdout.splitlines())
    assert told["branch"].startswith(branch), ran.stderr
    assert told["text"] == title
    assert f"on the branch {told['branch']}" in desk.run("show", told["session"]).stdout
    tree = Path(f"{told['taskdir']}.tree")
    (tree / "new").touch()
    kept = desk.run("prune", told["session"], "--yes").stdout
    assert "is not committed" in kept
    (tree / "new").unlink()
    assert desk.run("prune", told["session"], "--yes").stdout == f"{told['session']} removed\n"
    assert desk.run("run", *words).returncode == 2  # without --cwd
