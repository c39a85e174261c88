"""What a supervisor process is to do, as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.stress.faults import Fault

FOR_NOW = 75  # the exit code of a supervisor that has no journal for now


@dataclass(frozen=True)
class Work:
    """One session: its agent's plan, where it lives, and when it begins (s since the epoch)."""

    session: str
    taskdir: str
    begins: float
    agent: Mapping[str, Any]

    @property
    def begun(self) -> bool:
        """Its agent has written something down."""
        return Path(self.agent["ledger"]).exists()


@dataclass(frozen=True)
class Plan:
    """The life of one supervisor process."""

    directory: str  # for what it leaves to the books
    journal: str
    run: str  # the tag of this run, in the environment of every process of it
    work: Sequence[Work]
    faults: Sequence[Fault] = ()
    ssh: Mapping[str, Any] | None = None
    descriptors: int | None = None

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Plan:
        data = json.loads(path.read_text())
        work, ahead = [Work(**w) for w in data["work"]], [Fault(**f) for f in data["faults"]]
        return cls(**{**data, "work": work, "faults": ahead})
