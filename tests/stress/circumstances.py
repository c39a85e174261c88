"""Crews: who supervises what, where, and with how little; and how much of everything."""

from __future__ import annotations

import getpass
import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optio_agents.hosts.ssh.config import SSHConfig
from tests.stress import faults
from tests.stress.crews import Crew, Scale
from tests.stress.plans import Work
from tests.support import proc
from tests.support.hosts.accounts import Accounts
from tests.support.hosts.sshd import SSHD, SshServer, make_key

_ORDER = (
    *("DONE", "killed in mid-line", "DONE", "killed as it waits", "DONE", "ERROR", "DONE"),
    *("killed behind an announcement", "DONE", "exit", "DONE", "DONE", "DONE"),
)
_DISK = 64  # MiB


class Ground:
    """Makes crews below *directory*, and what they stand on; leaves out what cannot be had here."""

    def __init__(self, directory: Path, scale: Scale, seed: int, stack: ExitStack) -> None:
        self.directory, self.scale, self._stack = directory, scale, stack
        self.run = f"s{seed:08x}{os.getpid()}"
        self.chance = random.Random(seed)
        self.crews = list[Crew]()
        self.left_out = list[str]()
        self.server: SshServer | None = None
        self.direct: SSHConfig | None = None  # to the host, past all proxies
        self.curfew = directory / "curfew"  # when it is there, agents may go home
        self._began, self._count = time.time(), 0

    def running(self) -> list[proc.Process]:
        """What still runs of this run, here or in the sessions of its sshd."""
        marks = f"STRESS={self.run}".encode(), f"OPTIO_SESSION={self.run}".encode()
        alive = (found for found in proc.processes() if not found.gone)
        found = [p for p in alive if any(e.startswith(marks) for e in proc.environment(p))]
        there = [*self.server.running(), *self.server.sessions()] if self.server else []
        return found + [process for process in there if process not in found]

    def gather(self) -> None:
        self._stack.callback(lambda: proc.kill(*self.running()))
        few = max(1, self.scale.local // 12)
        plain = 1 if self.scale.quick else 3
        deaths, clock = self._deck(faults.DEATHS), self._deck(faults.CLOCKS)
        rest = self.scale.local - 4 * few
        for number in range(plain):
            self._crew(f"plain{number}", rest // plain, deaths, clock)
        self.crews[0].expected.append("supervisor stopped")
        self._crew("few", few, deaths, self._deck([(faults.GONE, "")]), descriptors=256)
        self.crews[-1].expected.append("descriptors few")
        self._without_inotify(few, deaths)
        self._on_small_disks(few, deaths)
        self._over_ssh(deaths)

    def _deck(self, cards: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """All of them, or a few that come up at once."""
        if not self.scale.quick:
            return list(cards)
        soon = {"recorded before handed over", "said before noted", ""}
        return [card for card in cards if card[1] in soon]

    def _crew(
        self,
        name: str,
        count: int,
        deaths: Sequence[tuple[str, str]],
        others: Sequence[tuple[str, str]],
        *,
        tasks: Path | None = None,
        journal: Path | None = None,
        **more: Any,
    ) -> Crew:
        directory = self.directory / name
        directory.mkdir()
        tasks = tasks or directory / "tasks"
        journal = journal or self.directory / "journal" / "j.sqlite3"
        work = [
            self._work(f"{self.run}-{name}-{n}", tasks, directory, late=n == 0)
            for n in range(count)
        ]
        self.crews.append(Crew(name, directory, journal, work, deaths, others, **more))
        return self.crews[-1]

    def _work(self, session: str, tasks: Path, directory: Path, *, late: bool) -> Work:
        """One that is *late* works until all has broken: each crew has one for what befalls it."""
        ending = _ORDER[self._count % len(_ORDER)]
        self._count += 1
        late = late or (ending == "DONE" and self._count % 4 > 0)
        agent = {
            "ledger": str(directory / f"{session}.ledger"),
            "seed": self.chance.getrandbits(32),
            "life": self.chance.uniform(*self.scale.lives),
            "pace": self.scale.pace,
            "ending": ending,
            "curfew": str(self.curfew) if late else "",
            "words": [f"word {n} for {session}" for n in range(self.chance.randrange(3))],
        }
        begins = self._began + self.chance.uniform(0, self.scale.starting)
        return Work(session, str(tasks / session), begins, agent)

    def _without_inotify(self, count: int, deaths: Sequence[tuple[str, str]]) -> None:
        lower = "echo 0 >/proc/sys/user/max_inotify_instances && echo ready && exec sleep 3600"
        argv = ["unshare", "-Ur", "sh", "-c", lower]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert holder.stdout
        self._stack.callback(_end, holder)
        if holder.stdout.readline() != b"ready\n":
            self.left_out.append("inotify exhausted: no user namespaces here")
            return
        prefix = ["nsenter", "-U", "--preserve-credentials", "-t", str(holder.pid)]
        crew = self._crew("deaf", count, deaths, [], prefix=prefix)
        crew.expected.append("inotify exhausted")

    def _on_small_disks(self, count: int, deaths: Sequence[tuple[str, str]]) -> None:
        for name in "tasks", "journal":
            disk = self.directory / f"small-{name}"
            disk.mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}m,mode=700", "none", str(disk)]
            if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
                self.left_out.append(f"disk full ({name}): it takes the rights to mount one")
                continue
            self._stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=True)
            place = {name: disk / ("j.sqlite3" if name == "journal" else "tasks")}
            crew = self._crew(f"full-{name}", count, deaths, [], disk=disk, **place)
            crew.expected.append(f"disk full: {name}")

    def _over_ssh(self, deaths: Sequence[tuple[str, str]]) -> None:
        if not Path(SSHD).exists():
            self.left_out.append("everything over SSH: OpenSSH's sshd is not installed")
            return
        self.server, self.direct = _sshd(self.directory / "ssh", self._stack)
        links = self._deck([*faults.CUTS, *faults.LINKS])
        number = 1 if self.scale.quick else 2
        for n in range(number):
            self._crew(f"ssh{n}", self.scale.ssh // number, deaths, links, ssh=asdict(self.direct))
        self.crews[-1].expected += ["sshd's sessions killed", "sshd restarted"]
        anew = ["unshare", "-T", "--monotonic", "100000", "--boottime", "100000"]
        if subprocess.run([*anew, "true"], check=False, capture_output=True).returncode:
            self.left_out.append("a monotonic clock that began elsewhere: no time namespaces here")
        else:
            self.crews[-1].prefix = anew
            self.crews[-1].expected.append("another monotonic clock")


@contextmanager
def gathered(directory: Path, scale: Scale, seed: int) -> Iterator[Ground]:
    """A ground with all its crews; nothing of it is left behind."""
    with ExitStack() as stack:
        ground = Ground(directory, scale, seed, stack)
        ground.gather()
        yield ground


def _sshd(place: Path, stack: ExitStack) -> tuple[SshServer, SSHConfig]:
    for path in place, place / "server":
        path.mkdir(mode=0o755)
    if not os.getuid():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    key = make_key(place / "key")
    server = SshServer(place / "server", key=key, home=Accounts(place).me.home)
    stack.callback(server.close)
    server.start()
    (known := place / "known_hosts").write_text(server.known_hosts)
    user, port = getpass.getuser(), server.port
    config = SSHConfig(
        server.host, user, port, key, known_hosts=known, config=None, agent_path=None
    )
    return server, config


def _end(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    assert holder.stdout
    holder.stdout.close()
