"""Talk to one live agent: what it says as events, what we say as messages and answers.

    async with claude_code(host, cwd="/home/me/project") as conversation:
        conversation.on_permission_request(ask_me)
        answer = await conversation.ask("Which tests are slow?")

`claude_code` itself is in `optio_agents`, since here a module has its name.
"""

from typing import TYPE_CHECKING

from optio_agents._face import face

# A public name stands here twice: for type checkers, and for whoever uses it first.
if TYPE_CHECKING:
    from .claude_conversation import ClaudeCodeConversation as ClaudeCodeConversation
    from .contract import (
        CloseReason as CloseReason,
        Conversation as Conversation,
        ConversationClosed as ConversationClosed,
        ConversationState as ConversationState,
        EventHandler as EventHandler,
        MessageHandler as MessageHandler,
        PermissionDecision as PermissionDecision,
        PermissionHandler as PermissionHandler,
        PermissionRequest as PermissionRequest,
        Unconfirmed as Unconfirmed,
        Unsubscribe as Unsubscribe,
    )
    from .controls import ControlRefused as ControlRefused
    from .launch import RootRefused as RootRefused, claude_code_adopt as claude_code_adopt
    from .models import TurnFailed as TurnFailed, TurnResult as TurnResult, Usage as Usage
    from .permissions import (
        allow_for_session as allow_for_session,
        answer_questions as answer_questions,
        questions as questions,
    )
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "claude_conversation": "ClaudeCodeConversation",
            "contract": """
                CloseReason Conversation ConversationClosed ConversationState EventHandler
                MessageHandler PermissionDecision PermissionHandler PermissionRequest
                Unconfirmed Unsubscribe
            """,
            "controls": "ControlRefused",
            "launch": "RootRefused claude_code_adopt",
            "models": "TurnFailed TurnResult Usage",
            "permissions": "allow_for_session answer_questions questions",
        },
    )
