"""The claude CLI behind a `Conversation`: stream-json over its standard input and output.

Read `stream_json` (the wire), `models` (what it says, typed), `turns` and `permissions` (pure
ledgers of one process), `conversation`, `launch` (how it is started and taken up again).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .permissions import allow_for_session, answer_questions, grants, questions

if TYPE_CHECKING:
    from .conversation import ClaudeCodeConversation, ControlRefused, PermissionMode
    from .launch import (
        Launch,
        RootRefused,
        check_root,
        claude_code,
        claude_code_adopt,
        conversing,
        plan_launch,
    )
    from .models import TurnFailed, TurnResult, Usage

__all__ = [
    "ClaudeCodeConversation",
    "ControlRefused",
    "Launch",
    "PermissionMode",
    "RootRefused",
    "TurnFailed",
    "TurnResult",
    "Usage",
    "allow_for_session",
    "answer_questions",
    "check_root",
    "claude_code",
    "claude_code_adopt",
    "conversing",
    "grants",
    "plan_launch",
    "questions",
]


def __getattr__(name: str) -> object:
    # Its models cost a quarter of a second: not for whoever only shows what it asks.
    for part in ("launch", "conversation", "models") if name in __all__ else ():
        if hasattr(module := import_module(f".{part}", __name__), name):
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
