"""A team in this terminal: what its turns do, as lines.

A record has the kind of its event (`called`, `tool_called`, `concluded`, …) and all that it holds.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields
from typing import TYPE_CHECKING

from optio_agents.cli.output import as_json
from optio_agents.conversation.contract import gist
from optio_agents.display import visible
from optio_agents.team.messages import plain
from optio_agents.team.observing.events import (
    AgentSpoke,
    Called,
    Concluded,
    Consulted,
    Sent,
    Slept,
    ToolCalled,
    Woke,
)

from .records import LinesView, Record, record

if TYPE_CHECKING:
    from optio_agents.team.observing.events import TeamEvent


def of_team(event: TeamEvent) -> Record:
    """What a program is told of it."""
    return record(
        kind_of(event), **{one.name: plain(getattr(event, one.name)) for one in fields(event)}
    )


def kind_of(event: TeamEvent) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()


def words(event: TeamEvent) -> str:
    """What a person is told of it; nothing of what would only be noise."""
    match event:
        case Called(name=name, to=to, child=child):
            return visible(f"{name} calls {to} ({child})")
        case ToolCalled(name=name, tool=tool, arguments=arguments):
            return visible(f"{name} uses {tool} {json.dumps(plain(arguments), ensure_ascii=False)}")
        case AgentSpoke(name=name, event={"type": "assistant", "message": {"content": list(all)}}):
            used = [one for one in all if isinstance(one, dict) and one.get("type") == "tool_use"]
            return visible("; ".join(f"{name}: {one['name']} {gist(one['input'])}" for one in used))
        case Sent(name=name, to=to, text=text):
            return visible(f"{name} to {to}: {text}")
        case Consulted(name=name, question=question, allowed=allowed):
            how = {None: "asks", True: "may", False: "may not"}[allowed]
            return visible(f"{name} {how}: {question}", limit=10_000)
        case Slept(name=name, until=until):
            when = time.strftime(" until %H:%M:%S", time.localtime(until)) if until else ""
            return visible(f"{name} sleeps{when}")
        case Woke(name=name, reason=reason):
            return visible(f"{name} wakes: {reason}")
        case Concluded(name=name, parent=None, status="completed"):
            return visible(f"{name} completed")  # the answer is printed whole
        case Concluded(name=name, status=status, text=text):
            return visible(f"{name} {status}: {text}")
    return ""


class TeamLines(LinesView):
    """Plain lines, or JSON ones, of the turns of a team."""

    def see(self, event: TeamEvent) -> None:
        if self._json:
            self._write(as_json(of_team(event)))
        elif line := words(event):
            self._write(f"{time.strftime('%H:%M:%S')} {line}")
