"""The claude CLI behind a `Conversation`: stream-json over its standard input and output.

Read `stream_json` (the wire), `models` (what it says, typed), `turns` and `permissions` (pure
ledgers of one process), `conversation`, `launch` (how it is started and taken up again).
"""

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
from .permissions import allow_for_session, answer_questions, questions

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
    "plan_launch",
    "questions",
]
