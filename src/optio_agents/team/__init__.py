"""Coding agents, models, people and functions that call one another, durably.

    async def research(ctx):
        parts = [ctx.call("scout", f"{ctx.text}, angle {n}") for n in range(3)]
        return [await part for part in parts]

    team = Team({"research": research, "scout": scout})
    print(team.run("research", "watching files"))

Read `team` (the way in), `turn` (what a caller holds), `context` (what a participant holds),
`calls` (the verbs), `kernel` (how turns are run); `messages`, `errors` and `limits` are the values;
`participants/` is who works, `stores/` where turns are kept (`journal` reads them without a team),
`observing/` how others see it, `mcp/` the verbs and tools of programs that are not ours.
"""

from .context import TurnContext, Wake
from .errors import (
    CallFailed,
    CallTimedOut,
    Diverged,
    LimitReached,
    NoCredential,
    NoParticipant,
    OutcomeUnknown,
    ProviderFailed,
    TeamError,
)
from .limits import Limits, every
from .messages import Attachment, Message
from .observing.events import (
    AgentSpoke,
    Called,
    Concluded,
    Consulted,
    Returned,
    Sent,
    Slept,
    Stepped,
    TeamEvent,
    Token,
    ToolCalled,
    ToolReturned,
    Woke,
)
from .participants.agents import agent
from .participants.human import human
from .participants.model import model
from .participants.tools import ToolResult, skills, tool
from .team import Team
from .turn import Status, Turn

__all__ = [
    "AgentSpoke",
    "Attachment",
    "CallFailed",
    "CallTimedOut",
    "Called",
    "Concluded",
    "Consulted",
    "Diverged",
    "LimitReached",
    "Limits",
    "Message",
    "NoCredential",
    "NoParticipant",
    "OutcomeUnknown",
    "ProviderFailed",
    "Returned",
    "Sent",
    "Slept",
    "Status",
    "Stepped",
    "Team",
    "TeamError",
    "TeamEvent",
    "Token",
    "ToolCalled",
    "ToolResult",
    "ToolReturned",
    "Turn",
    "TurnContext",
    "Wake",
    "Woke",
    "agent",
    "every",
    "human",
    "model",
    "skills",
    "tool",
]
