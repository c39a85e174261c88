"""Talk to one live agent: what it says as events, what we say as messages and answers.

async with claude_code(host, cwd="/home/me/project") as conversation:
    conversation.on_permission_request(ask_me)
    answer = await conversation.ask("Which tests are slow?")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .claude_code import ClaudeCodeConversation
    from .contract import (
        CloseReason,
        Conversation,
        ConversationClosed,
        ConversationState,
        PermissionDecision,
        PermissionRequest,
        Unconfirmed,
    )
    from .launch import claude_code, claude_code_adopt

_HOMES = {
    "CloseReason": "contract",
    "Conversation": "contract",
    "ConversationClosed": "contract",
    "ConversationState": "contract",
    "PermissionDecision": "contract",
    "PermissionRequest": "contract",
    "Unconfirmed": "contract",
    "ClaudeCodeConversation": "claude_code",
    "claude_code": "launch",
    "claude_code_adopt": "launch",
}

__all__ = [
    "ClaudeCodeConversation",
    "CloseReason",
    "Conversation",
    "ConversationClosed",
    "ConversationState",
    "PermissionDecision",
    "PermissionRequest",
    "Unconfirmed",
    "claude_code",
    "claude_code_adopt",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
