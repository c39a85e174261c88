"""The claude CLI behind a `Conversation`: stream-json over its standard input and output.

Promises: a turn counts as completed on the CLI's own evidence alone, whatever it merges, folds
or starts by itself; each message of ours is answered by one turn, by name; what the CLI writes
may be anything; nothing that goes in can end it; no grant reaches beyond the session.

Read `stream_json` (what we say), `turns` (which turn ended what, and how) and `permissions` (what
is open, what "always" would grant), both pure ledgers of one process, `tools` (functions of ours
that it calls over its own stream); `models` (what it says,
typed), `dialect` (all of it as facts), `conversation` (the verbs of this agent alone), `launch`
(how it is started and taken up again).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .permissions import allow_for_session, answer_questions, grants, questions

if TYPE_CHECKING:
    from .conversation import ClaudeCodeConversation, ControlRefused, PermissionMode
    from .launch import RootRefused, claude_code, claude_code_adopt
    from .models import ClaudeTurnResult, TurnFailed, Usage

__all__ = [
    "ClaudeCodeConversation",
    "ClaudeTurnResult",
    "ControlRefused",
    "PermissionMode",
    "RootRefused",
    "TurnFailed",
    "Usage",
    "allow_for_session",
    "answer_questions",
    "claude_code",
    "claude_code_adopt",
    "grants",
    "questions",
]


def __getattr__(name: str) -> object:
    # Its models cost a quarter of a second: not for whoever only shows what it asks.
    for part in ("launch", "conversation", "models") if name in __all__ else ():
        if hasattr(module := import_module(f".{part}", __name__), name):
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
