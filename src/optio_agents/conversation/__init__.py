"""Talk to one live agent: what it says as events, what we say as messages and answers.

    async with claude_code(host, cwd="/home/me/project") as conversation:
        conversation.on_permission_request(ask_me)
        answer = await conversation.ask("Which tests are slow?")

Promises, for every agent alike: events in order and complete to each subscriber; `on_message` for
completed turns alone, and a turn is completed only with evidence (`on_turn` tells how each ended);
one valid answer to each permission request, the first one given, from whichever terminal; every
wait bounded or cancellable; nothing that an agent writes ends the reading.

Read `contract` (what every conversation promises), `dialect` (what an agent must give to stand
behind it: start there to add one), `machinery` (all that is the same for every agent), `approvals`
and `subscribers` (who decides, who is handed what), `wire`, `wire_agent` and `wire_handle` (how an
agent is reached), `json_lines`. Each agent is one folder, and its words stand nowhere else;
`claude/` is the claude CLI.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .contract import (
    AgentTool,
    AnswerUnfit,
    Attachment,
    CloseReason,
    ContextUsage,
    Conversation,
    ConversationClosed,
    ConversationState,
    EventHandler,
    Hook,
    MessageHandler,
    PermissionDecision,
    PermissionHandler,
    PermissionRequest,
    TokenUsage,
    ToolCall,
    ToolServer,
    TurnHandler,
    TurnResult,
    Unconfirmed,
    Unsubscribe,
)

if TYPE_CHECKING:
    from .claude import (
        ClaudeCodeConversation,
        ClaudeTurnResult,
        ControlRefused,
        RootRefused,
        TurnFailed,
        Usage,
        allow_for_session,
        answer_questions,
        claude_code,
        claude_code_adopt,
        grants,
        questions,
    )

__all__ = [
    "AgentTool",
    "AnswerUnfit",
    "Attachment",
    "ClaudeCodeConversation",
    "ClaudeTurnResult",
    "CloseReason",
    "ContextUsage",
    "ControlRefused",
    "Conversation",
    "ConversationClosed",
    "ConversationState",
    "EventHandler",
    "Hook",
    "MessageHandler",
    "PermissionDecision",
    "PermissionHandler",
    "PermissionRequest",
    "RootRefused",
    "TokenUsage",
    "ToolCall",
    "ToolServer",
    "TurnFailed",
    "TurnHandler",
    "TurnResult",
    "Unconfirmed",
    "Unsubscribe",
    "Usage",
    "allow_for_session",
    "answer_questions",
    "claude_code",
    "claude_code_adopt",
    "grants",
    "questions",
]


def __getattr__(name: str) -> object:
    if name in __all__:  # one agent's words: not before somebody asks for them
        return getattr(import_module(".claude", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
