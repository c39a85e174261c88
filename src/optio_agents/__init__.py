"""Supervise coding agents on local and remote hosts, and know the truth about them."""

from typing import TYPE_CHECKING

from optio_agents._face import face

# A public name stands here twice: for type checkers, and for whoever uses it first.
if TYPE_CHECKING:
    from optio_agents.context import (
        SYSTEM_MESSAGE_PREFIX as SYSTEM_MESSAGE_PREFIX,
        AgentSender as AgentSender,
        HookContext as HookContext,
        HookContextProtocol as HookContextProtocol,
        ProcessContext as ProcessContext,
    )
    from optio_agents.protocol.display import visible as visible, visible_block as visible_block
    from optio_agents.protocol.events import (
        AttentionEvent as AttentionEvent,
        BrowserEvent as BrowserEvent,
        CallerMessageEvent as CallerMessageEvent,
        ClientMessageEvent as ClientMessageEvent,
        DeliverableEvent as DeliverableEvent,
        DoneEvent as DoneEvent,
        ErrorEvent as ErrorEvent,
        LogEvent as LogEvent,
        StatusEvent as StatusEvent,
        UnknownLine as UnknownLine,
    )
    from optio_agents.protocol.features import (
        BrowserMode as BrowserMode,
        ProtocolFeatures as ProtocolFeatures,
    )
    from optio_agents.protocol.parser import (
        format_log_line as format_log_line,
        parse_log_line as parse_log_line,
    )
    from optio_agents.protocol.paths import (
        relativize_deliverable_path as relativize_deliverable_path,
        validate_deliverable_path as validate_deliverable_path,
    )
    from optio_agents.protocol.prompt import (
        LOG_CHANNEL_PROMPT as LOG_CHANNEL_PROMPT,
        RESUME_NOTICE as RESUME_NOTICE,
        build_log_channel_prompt as build_log_channel_prompt,
        compose_agents_md as compose_agents_md,
    )
    from optio_agents.protocol.protocol import Protocol as Protocol, get_protocol as get_protocol
    from optio_agents.session.callers import (
        CALLER_MESSAGE_QUEUE_BOUND as CALLER_MESSAGE_QUEUE_BOUND,
        CallerMessageCallback as CallerMessageCallback,
    )
    from optio_agents.session.deliverables import (
        DELIVERABLE_QUEUE_BOUND as DELIVERABLE_QUEUE_BOUND,
        Deliverable as Deliverable,
        DeliverableCallback as DeliverableCallback,
        DeliverableFileCallback as DeliverableFileCallback,
        fetch_deliverable_text as fetch_deliverable_text,
    )
    from optio_agents.session.driver import run_log_protocol_session as run_log_protocol_session
    from optio_agents.session.plan import HookCallback as HookCallback
    from optio_agents.session.result import SessionResult as SessionResult
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "context": """
                SYSTEM_MESSAGE_PREFIX AgentSender HookContext HookContextProtocol
                ProcessContext
            """,
            "protocol.display": "visible visible_block",
            "protocol.events": """
                AttentionEvent BrowserEvent CallerMessageEvent ClientMessageEvent
                DeliverableEvent DoneEvent ErrorEvent LogEvent StatusEvent UnknownLine
            """,
            "protocol.features": "BrowserMode ProtocolFeatures",
            "protocol.parser": "format_log_line parse_log_line",
            "protocol.paths": "relativize_deliverable_path validate_deliverable_path",
            "protocol.prompt": """
                LOG_CHANNEL_PROMPT RESUME_NOTICE build_log_channel_prompt
                compose_agents_md
            """,
            "protocol.protocol": "Protocol get_protocol",
            "session.callers": "CALLER_MESSAGE_QUEUE_BOUND CallerMessageCallback",
            "session.deliverables": """
                DELIVERABLE_QUEUE_BOUND Deliverable DeliverableCallback DeliverableFileCallback
                fetch_deliverable_text
            """,
            "session.driver": "run_log_protocol_session",
            "session.plan": "HookCallback",
            "session.result": "SessionResult",
        },
    )
