"""A dialect that is fed by a test, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from optio_agents.conversation.dialect import Dialect, Fact
from optio_agents.conversation.wire import OutputLines


class FedDialect:
    """It reads each line behind those before, as if it stood in one output."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect: Any = dialect
        self.place = 0

    def hear(self, *events: Any) -> Iterable[Fact]:
        lines = [json.dumps(event).encode() for event in events]
        places = range(self.place, self.place + len(lines))
        self.place += len(lines)
        return self.dialect.read(OutputLines(lines, 1, places), 0.0).facts
