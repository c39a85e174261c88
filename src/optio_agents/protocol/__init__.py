"""What an agent says, line by line, and what it is taught to say.

One table of keywords drives both the parser and the prompt, so that they cannot drift. Everything
here is pure: text in, values out. Read `events` (what a line can say), `keywords` (the table),
`parser` (lines to events and back), `prompt` (the words that teach it), `protocol` (both, bound to
one choice of `features`); `paths` and `strict_json` are what the rows are made of.

The session that such lines drive lies above; the outside knows some of its names from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from optio_agents.display import visible, visible_block

from .events import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    StatusEvent,
    UnknownLine,
)
from .features import BrowserMode, ProtocolFeatures
from .parser import format_log_line, parse_log_line
from .paths import relativize_deliverable_path, validate_deliverable_path
from .prompt import (
    LOG_CHANNEL_PROMPT,
    RESUME_NOTICE,
    build_log_channel_prompt,
    compose_agents_md,
)
from .protocol import Protocol, get_protocol

if TYPE_CHECKING:
    from optio_agents.context import AgentSender
    from optio_agents.session import (
        CALLER_MESSAGE_QUEUE_BOUND,
        DELIVERABLE_QUEUE_BOUND,
        CallerMessageCallback,
        Deliverable,
        DeliverableCallback,
        DeliverableFileCallback,
        DoneCallback,
        HookCallback,
        SessionResult,
        fetch_deliverable_text,
        run_log_protocol_session,
    )

    from . import session as session

__all__ = [
    "CALLER_MESSAGE_QUEUE_BOUND",
    "DELIVERABLE_QUEUE_BOUND",
    "LOG_CHANNEL_PROMPT",
    "RESUME_NOTICE",
    "AgentSender",
    "AttentionEvent",
    "BrowserEvent",
    "BrowserMode",
    "CallerMessageCallback",
    "CallerMessageEvent",
    "ClientMessageEvent",
    "Deliverable",
    "DeliverableCallback",
    "DeliverableEvent",
    "DeliverableFileCallback",
    "DoneCallback",
    "DoneEvent",
    "ErrorEvent",
    "HookCallback",
    "LogEvent",
    "Protocol",
    "ProtocolFeatures",
    "SessionResult",
    "StatusEvent",
    "UnknownLine",
    "build_log_channel_prompt",
    "compose_agents_md",
    "fetch_deliverable_text",
    "format_log_line",
    "get_protocol",
    "parse_log_line",
    "relativize_deliverable_path",
    "run_log_protocol_session",
    "validate_deliverable_path",
    "visible",
    "visible_block",
]


def __getattr__(name: str) -> object:
    if name in __all__:  # what is not imported above lies in a layer above
        above = "context" if name == "AgentSender" else "session"
        return getattr(import_module(f"optio_agents.{above}"), name)
    if name == "session":  # published as an attribute, too
        return import_module(f"{__name__}.session")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
