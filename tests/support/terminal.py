"""A person's account to try the command in: an empty home, and real terminals by tmux."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import anyio
import coverage
import pytest

from tests.support import proc
from tests.support.components import CLAUDE, needs
from tests.support.timeouts import BOUND

if TYPE_CHECKING:
    from optio_agents.testing.model_server import ModelServer
    from tests.support.hosts.sshd import SshLogin

_NAP = 0.02  # seconds between two looks at a screen: tmux tells nobody


@dataclass(slots=True)
class Terminal:
    """One tmux window with a shell in it."""

    program: str
    socket: Path

    async def type(self, text: str) -> None:
        """Type *text* and press Enter."""
        await self.tmux("send-keys", "-l", text)
        await self.key("Enter")

    async def key(self, *names: str) -> None:
        """Press keys by their tmux names: `C-c`, `y`."""
        await self.tmux("send-keys", *names)

    async def resize(self, width: int, height: int) -> None:
        await self.tmux("resize-window", "-x", str(width), "-y", str(height))

    async def screen(self) -> str:
        """What is seen now, without the blank lines at its end."""
        return (await self.tmux("capture-pane", "-p")).rstrip()

    async def all(self) -> str:
        """What has scrolled away as well; a line that the terminal folded is one line."""
        return (await self.tmux("capture-pane", "-p", "-J", "-S", "-")).rstrip()

    async def colours(self) -> str:
        """What is seen now, with its escape sequences."""
        return await self.tmux("capture-pane", "-p", "-e")

    async def until(self, wanted: str | Callable[[str], object], *, within: float = BOUND) -> str:
        """Wait until the terminal shows *wanted*, a regular expression; gives all of its text."""
        found: Callable[[str], object] = (
            re.compile(wanted, re.MULTILINE).search if isinstance(wanted, str) else wanted
        )
        seen = ""
        with anyio.move_on_after(within):
            while not found(seen := await self.all()):  # noqa: ASYNC110 - nobody tells us
                await anyio.sleep(_NAP)
            return seen
        raise AssertionError(f"{wanted!r} was not seen within {within} s in:\n{seen}")

    async def until_gone(self, unwanted: str, *, within: float = BOUND) -> None:
        """Wait until *unwanted*, a regular expression, is not seen any more."""
        seen = ""
        with anyio.move_on_after(within):
            while re.search(unwanted, seen := await self.screen()):  # noqa: ASYNC110
                await anyio.sleep(_NAP)
            return
        raise AssertionError(f"{unwanted!r} was still seen after {within} s in:\n{seen}")

    async def ends(self, code: int) -> str:
        """Wait until the command before has ended with *code*; type `; echo "exit $?"` with it."""
        seen = await self.until(r"^exit \d+$")
        assert f"exit {code}" in seen.splitlines(), seen
        return seen

    async def tmux(self, *words: str) -> str:
        ran = await anyio.run_process([self.program, "-S", str(self.socket), *words])
        return ran.stdout.decode()


def agent(*steps: str, flags: str = "") -> str:
    """A command line that runs the scripted agent and tells its exit code."""
    words = " ".join(map(shlex.quote, steps))
    return f'clear; optio-agents run --title t {flags} -- agent {words}; echo "exit $?"'


@dataclass(slots=True)
class Desk:
    """Where a person sits: a home of their own, and nothing else in the environment."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    _terminals: int = 0

    def __post_init__(self) -> None:
        ours = Path(sys.executable).parent
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{self.home}/bin:{ours}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "PS1": "$ ",
            "SHELL": "/bin/sh",
            **self.env,
        }
        if coverage.Coverage.current() is not None:  # what runs in other processes counts, too
            self.env["COVERAGE_PROCESS_START"] = str(self._coverage())
        binaries = self.home / "bin"
        binaries.mkdir()
        self.program("agent", files("optio_agents.testing").joinpath("agent.sh").read_text())
        profile = "PATH=$HOME/bin:$PATH; export PATH\n"
        (self.home / ".profile").write_text(profile)

    def _coverage(self) -> Path:
        settings = self.home.with_name("coveragerc")
        measuring = coverage.Coverage.current()
        assert measuring is not None
        data = Path(__file__).parents[2] / str(measuring.get_option("run:data_file"))
        wanted = f"source=optio_agents\nbranch=true\nparallel=true\ndata_file={data}"
        settings.write_text(f"[run]\n{wanted}\n")
        return settings

    def program(self, name: str, text: str) -> Path:
        """Put a shell script into ~/bin."""
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
        return path

    def hold(self, name: str) -> str:
        """A step of the scripted agent, `agent`, that waits for `release(name)`."""
        return f"run while [ ! -e '{self.home}/{name}' ]; do sleep 0.02; done"

    def release(self, name: str) -> None:
        (self.home / name).touch()

    def has_claude(self, api: ModelServer) -> str:
        """Install the real claude, for that API; gives the flags that `run` needs."""
        real = needs(f"claude {CLAUDE}")
        self.program("claude", f'exec {real} "$@" --strict-mcp-config --setting-sources=\n')
        self.env |= {
            "ANTHROPIC_API_KEY": "dummy-key",
            "ANTHROPIC_BASE_URL": api.url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        names = ("API_KEY", "BASE_URL")
        flags = " ".join(f"--env ANTHROPIC_{name}" for name in names)
        return f"{flags} --env CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"

    def run(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        given: str = "",
        within: float = BOUND,
    ) -> subprocess.CompletedProcess[str]:
        """The command, where nobody sits at a terminal. Blocks."""
        return subprocess.run(
            ["optio-agents", *words],
            env={**self.env, **(env or {})},
            cwd=self.home,
            input=given,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def listed(self, *words: str) -> list[dict[str, Any]]:
        """What `ls` says, as a program reads it."""
        return [json.loads(line) for line in self.run("ls", "--json", *words).stdout.splitlines()]

    @contextmanager
    def running(self, *words: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
        """The command, and the lines that it prints while the block lasts."""
        with subprocess.Popen(
            ["optio-agents", *words],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            yield process, process.stdout

    async def runs(
        self, *words: str, env: Mapping[str, str] | None = None, within: float = BOUND
    ) -> subprocess.CompletedProcess[str]:
        """The same, and the loop of the test goes on."""
        with anyio.fail_after(within):
            ran = await anyio.run_process(
                ["optio-agents", *words],
                env={**self.env, **(env or {})},
                cwd=self.home,
                input=b"",
                check=False,
            )
        out, err = ran.stdout.decode(), ran.stderr.decode()
        return subprocess.CompletedProcess(words, ran.returncode, out, err)

    @asynccontextmanager
    async def terminal(
        self, width: int = 80, height: int = 24, **env: str
    ) -> AsyncIterator[Terminal]:
        """A terminal, in which `sh` waits in the home directory."""
        self._terminals += 1
        # a socket's name is short, and the home of a test is not
        socket = Path(f"/tmp/optio-tmux-{os.getpid()}-{id(self):x}-{self._terminals}")
        terminal = Terminal(str(needs("tmux")), socket)
        start = ["-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height)]
        await anyio.run_process(
            [terminal.program, "-S", str(socket), *start, "sh"],
            env={**self.env, **env},
            cwd=self.home,
        )
        try:
            await terminal.until(r"^\$")
            yield terminal
        finally:
            with anyio.CancelScope(shield=True), suppress(subprocess.CalledProcessError):
                await terminal.tmux("kill-server")
            await anyio.Path(socket).unlink(missing_ok=True)

    def knows(self, name: str, login: SshLogin) -> None:
        """`name` in ~/.ssh/config leads to *login*."""
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        with (ssh / "config").open("a") as config:
            config.write(
                f"Host {name}\n  HostName {login.host}\n  Port {login.port}\n  User {login.user}\n"
                f"  IdentityFile {login.key_path}\n  UserKnownHostsFile {login.known_hosts_path}\n"
            )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    home = tmp_path / "home"
    home.mkdir()
    yield Desk(home)

    def left() -> list[proc.Process]:
        mark = f"HOME={home}".encode()
        return [one for one in proc.processes() if not one.gone and mark in proc.environment(one)]

    with suppress(TimeoutError):
        proc.wait_until(lambda: not left())
    names = [one.name for one in left()]
    proc.kill(*left())
    assert not names, f"left running: {names}"
