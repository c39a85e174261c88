"""The Claude Code backend: what its callers need, in one place."""

from __future__ import annotations

from .claude_conversation import ClaudeCodeConversation, PermissionMode
from .controls import ControlRefused
from .launch import (
    Launch,
    RootRefused,
    check_root,
    claude_code,
    claude_code_adopt,
    conversing,
    plan_launch,
)
from .permissions import allow_for_session, answer_questions, questions

__all__ = [
    "ClaudeCodeConversation",
    "ControlRefused",
    "Launch",
    "PermissionMode",
    "RootRefused",
    "allow_for_session",
    "answer_questions",
    "check_root",
    "claude_code",
    "claude_code_adopt",
    "conversing",
    "plan_launch",
    "questions",
]
