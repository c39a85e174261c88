"""Talk to one live agent: what it says as events, what we say as messages and answers.

    async with claude_code(host, cwd="/home/me/project") as conversation:
        conversation.on_permission_request(ask_me)
        answer = await conversation.ask("Which tests are slow?")

Read `contract` (what every conversation promises), `wire` and its two kinds (how an agent is
reached), `subscribers` (who hears of what it says), `approvals`; `claude/` is the claude CLI.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .contract import (
    CloseReason,
    Conversation,
    ConversationClosed,
    ConversationState,
    EventHandler,
    MessageHandler,
    PermissionDecision,
    PermissionHandler,
    PermissionRequest,
    Unconfirmed,
    Unsubscribe,
)

if TYPE_CHECKING:
    from .claude import (
        ClaudeCodeConversation,
        ControlRefused,
        RootRefused,
        TurnFailed,
        TurnResult,
        Usage,
        allow_for_session,
        answer_questions,
        claude_code,
        claude_code_adopt,
        questions,
    )

__all__ = [
    "ClaudeCodeConversation",
    "CloseReason",
    "ControlRefused",
    "Conversation",
    "ConversationClosed",
    "ConversationState",
    "EventHandler",
    "MessageHandler",
    "PermissionDecision",
    "PermissionHandler",
    "PermissionRequest",
    "RootRefused",
    "TurnFailed",
    "TurnResult",
    "Unconfirmed",
    "Unsubscribe",
    "Usage",
    "allow_for_session",
    "answer_questions",
    "claude_code",
    "claude_code_adopt",
    "questions",
]


def __getattr__(name: str) -> object:
    if name in __all__:  # one agent's words: not before somebody asks for them
        return getattr(import_module(".claude", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
