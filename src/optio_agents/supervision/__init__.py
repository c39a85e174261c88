"""An agent's life around runs: started, owned, spoken to, left alone and found again.

Read `events` (what happens in a session, as values), `live` (the session as whoever watches and
acts has it), `supervise` (what is awaited, or entered as its owner) and `visiting` (as anybody
else), `way_in` (how it begins, or goes on), `supervisor` (one owner of one agent, within its
`limits`), `recording` (what it writes down, and who is shown it), `credentials` (what it must know
to hide them), `sessions` (what must be known to find one again) and `pruning` (forgetting it);
`kinds/` holds what is different from agent to agent.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from optio_agents.store.records import SessionState

from .events import (
    AgentEvent,
    AgentRestarted,
    AnswerOutcome,
    DeliveryStep,
    DoneChecked,
    LinkChanged,
    LogLine,
    MessageSent,
    Notice,
    Observer,
    OpenRequest,
    RequestDecided,
    RequestOpened,
    SessionBegan,
    SessionEnded,
    SessionEvent,
    StateChanged,
    TodosChanged,
    TurnEnded,
)
from .kinds.command import Command
from .live import Session
from .supervise import supervise
from .visiting import find_session

if TYPE_CHECKING:
    from .kinds.acp import Acp, Copilot, Gemini, Kimi, OpenCode, Qwen
    from .kinds.claude import Claude
    from .kinds.codex import Codex

__all__ = [
    "Acp",
    "AgentEvent",
    "AgentRestarted",
    "AnswerOutcome",
    "Claude",
    "Codex",
    "Command",
    "Copilot",
    "DeliveryStep",
    "DoneChecked",
    "Gemini",
    "Kimi",
    "LinkChanged",
    "LogLine",
    "MessageSent",
    "Notice",
    "Observer",
    "OpenCode",
    "OpenRequest",
    "Qwen",
    "RequestDecided",
    "RequestOpened",
    "Session",
    "SessionBegan",
    "SessionEnded",
    "SessionEvent",
    "SessionState",
    "StateChanged",
    "TodosChanged",
    "TurnEnded",
    "find_session",
    "supervise",
]
_CONVERSING = {"Claude": "claude", "Codex": "codex"} | dict.fromkeys(
    ("Acp", "Copilot", "Gemini", "Kimi", "OpenCode", "Qwen"), "acp"
)


def __getattr__(name: str) -> object:
    if name in _CONVERSING:  # a plain command need not load what one converses with
        return getattr(import_module(f".kinds.{_CONVERSING[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
