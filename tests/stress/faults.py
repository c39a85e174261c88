"""What goes wrong inside a supervisor, at which step, and how often it did."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.sessions.supervisor import STEPS

KILLED, CUT, STALLED, REFUSED = "supervisor killed", "link cut", "link stalled", "link refused"
FORWARD, BACK, GONE = "clock stepped forward", "clock stepped back", "descriptors gone"

_STEPS = [step for step in STEPS if "again" not in step and "restart" not in step]  # none is
_TALKS = [step for step in _STEPS if step not in {"added before start", "marked"}]
DEATHS = [(KILLED, step) for step in _STEPS]
CUTS = [(CUT, step) for step in _TALKS]
LINKS = [
    *(
        (STALLED, step)
        for step in ("mid-fetch", "judged before said", "recorded before handed over")
    ),
    *((REFUSED, step) for step in ("decided before said", "handed over before marked")),
]
ANY = ""  # a step, whichever it is
CLOCKS = [(FORWARD, ANY), (BACK, ANY)]
LATE = ("before the end is written", "after the end is written")
EARLY = ("added before start", "started before owned", "owned before read")


@dataclass(frozen=True)
class Fault:
    """*what* happens when *step* comes up for the first time *after* so many seconds."""

    what: str
    step: str
    after: float
    seconds: float = 0.0  # how long it lasts, if it does

    @property
    def name(self) -> str:
        return f"{self.what}: {self.step}" if self.step else self.what


class Tally:
    """How often what was hit, in a file that any number of processes write to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)  # now: later there may be no descriptor left

    def hit(self, name: str) -> None:
        os.write(self._file, f"{name}\n".encode())

    def close(self) -> None:
        os.close(self._file)

    def counts(self) -> Counter[str]:
        return Counter(self.path.read_text().splitlines())


class Schedule:
    """Makes each fault happen once, behind its tally: some are deadly. To be told every step."""

    def __init__(
        self, faults: Sequence[Fault], acts: Mapping[str, Callable[[Fault], None]], tally: Tally
    ) -> None:
        self._left, self._acts, self._tally = list(faults), acts, tally
        self._began = time.monotonic()

    def __call__(self, step: str) -> None:
        lived = time.monotonic() - self._began
        for fault in [f for f in self._left if f.step in {step, ANY} and f.after <= lived]:
            self._left.remove(fault)
            self._tally.hit(fault.name)
            self._acts[fault.what](fault)
