"""Processes as /proc shows them: a pid alone names nothing for long."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.timeouts import BOUND

TAGS = ("OPTIO_SESSION", "OPTIO_RUN", "OPTIO_TEST_SERVER")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    start_time: int  # clock ticks since boot
    name: str
    state: str
    parent: int
    session: int
    terminal: int  # 0: none

    @property
    def gone(self) -> bool:
        return process_is_gone(self.pid, self.start_time)

    @property
    def stopped(self) -> bool:
        """Whether it does nothing just now: stopped, or gone."""
        found = process(self.pid)
        return self.gone or (found is not None and found.state == "T")

    def send(self, number: signal.Signals) -> None:
        """Signal this very process, or nobody."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if not self.gone:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def process(pid: int) -> Process | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = stat.rpartition(")")  # a name may hold spaces and parentheses
    fields = tail.split()
    name = head.partition("(")[2]
    return Process(
        pid, int(fields[19]), name, fields[0], int(fields[1]), int(fields[3]), int(fields[4])
    )


def processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := process(int(entry.name))):
            yield found


def unique() -> str:
    """Seconds to sleep, some minutes, that no other process sleeps: a name nobody can scrub."""
    return f"{900 + secrets.randbelow(300)}.{secrets.randbelow(10**9):09}"


def start_time(pid: int) -> int:
    found = process(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return found.start_time


def process_is_gone(pid: int, start_time: int) -> bool:
    """Whether that process has ended; a zombie has, and another one with its pid is not it."""
    found = process(pid)
    return found is None or found.start_time != start_time or found.state in "ZX"


def tagged(tag: str) -> list[Process]:
    """Live processes that inherited *tag*, in one of `TAGS`, in their environment."""
    wanted = {f"{name}={tag}".encode() for name in TAGS}
    return [found for found in processes() if wanted & environment(found) and not found.gone]


def kill(*victims: Process, within: float = BOUND) -> None:
    """SIGKILL, and wait until they are gone."""
    for victim in victims:
        victim.send(signal.SIGKILL)
    wait_until(lambda: all(victim.gone for victim in victims), within=within)


def wait_until(condition: Callable[[], bool], within: float = BOUND) -> None:
    """Look every millisecond: the kernel tells nobody but a parent of these things."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {within} s: {condition}")
        time.sleep(0.001)


def running(word: str) -> list[Process]:
    """Every live process that has *word* in its command line."""
    return [found for found in processes() if not found.gone and word in command_line(found)]


def command_line(found: Process) -> str:
    try:
        return (_PROC / str(found.pid) / "cmdline").read_text(errors="replace")
    except OSError:  # ended meanwhile
        return ""


def directory(found: Process) -> str:
    """Where it stands."""
    try:
        return str((_PROC / str(found.pid) / "cwd").readlink())
    except OSError:
        return ""


def environment(found: Process) -> set[bytes]:
    """The variables that it was started with, as `NAME=value`."""
    try:
        return set((_PROC / str(found.pid) / "environ").read_bytes().split(b"\0"))
    except OSError:  # ended meanwhile, or of another user
        return set()
