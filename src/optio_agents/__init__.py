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
        HostCommandError as HostCommandError,
        ProcessContext as ProcessContext,
    )
    from optio_agents.conversation.claude_code import (
        claude_code as claude_code,
    )
    from optio_agents.conversation.claude_conversation import (
        ClaudeCodeConversation as ClaudeCodeConversation,
    )
    from optio_agents.conversation.contract import (
        Conversation as Conversation,
        ConversationClosed as ConversationClosed,
        ConversationState as ConversationState,
        PermissionDecision as PermissionDecision,
        PermissionRequest as PermissionRequest,
    )
    from optio_agents.conversation.launch import (
        claude_code_adopt as claude_code_adopt,
    )
    from optio_agents.conversation.models import (
        TurnFailed as TurnFailed,
        TurnResult as TurnResult,
    )
    from optio_agents.errors import (
        AgentError as AgentError,
        AgentExited as AgentExited,
        AgentReportedError as AgentReportedError,
        AgentStalled as AgentStalled,
        AlreadyOwned as AlreadyOwned,
        CommandFailed as CommandFailed,
        CommandTimedOut as CommandTimedOut,
        ConnectError as ConnectError,
        EndedByHook as EndedByHook,
        EndSession as EndSession,
        FileRefused as FileRefused,
        HostError as HostError,
        HostKeyRefused as HostKeyRefused,
        HostLost as HostLost,
        HostUnreachable as HostUnreachable,
        JournalChanged as JournalChanged,
        LoginRefused as LoginRefused,
        NameTaken as NameTaken,
        OptioAgentsError as OptioAgentsError,
        PortClosed as PortClosed,
        ServerSilent as ServerSilent,
        SessionFailed as SessionFailed,
        StoreError as StoreError,
        TransferFailed as TransferFailed,
        UnknownHostName as UnknownHostName,
        WorkDirRefused as WorkDirRefused,
    )
    from optio_agents.hosts.commands import (
        RunResult as RunResult,
    )
    from optio_agents.hosts.host import (
        Host as Host,
        LocalHost as LocalHost,
        RemoteHost as RemoteHost,
        make_host as make_host,
    )
    from optio_agents.hosts.launched import (
        ProcessHandle as ProcessHandle,
    )
    from optio_agents.hosts.ssh_config import (
        SSHConfig as SSHConfig,
    )
    from optio_agents.protocol.display import (
        visible as visible,
        visible_block as visible_block,
    )
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
    from optio_agents.protocol.protocol import (
        Protocol as Protocol,
        get_protocol as get_protocol,
    )
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
    from optio_agents.session.driver import (
        run_log_protocol_session as run_log_protocol_session,
    )
    from optio_agents.session.plan import (
        HookCallback as HookCallback,
    )
    from optio_agents.session.result import (
        SessionResult as SessionResult,
    )
    from optio_agents.session.spec import (
        Claude as Claude,
        Command as Command,
    )
    from optio_agents.session.supervise import (
        supervise as supervise,
    )
    from optio_agents.store import (
        Store as Store,
    )
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "context": """
                AgentSender HookContext HookContextProtocol HostCommandError
                ProcessContext SYSTEM_MESSAGE_PREFIX
            """,
            "conversation.claude_code": "claude_code",
            "conversation.claude_conversation": "ClaudeCodeConversation",
            "conversation.contract": """
                Conversation ConversationClosed ConversationState
                PermissionDecision PermissionRequest
            """,
            "conversation.launch": "claude_code_adopt",
            "conversation.models": "TurnFailed TurnResult",
            "errors": """
                AgentError AgentExited AgentReportedError AgentStalled
                AlreadyOwned CommandFailed CommandTimedOut ConnectError
                EndSession EndedByHook FileRefused HostError HostKeyRefused
                HostLost HostUnreachable JournalChanged LoginRefused NameTaken
                OptioAgentsError PortClosed ServerSilent SessionFailed
                StoreError TransferFailed UnknownHostName WorkDirRefused
            """,
            "hosts.commands": "RunResult",
            "hosts.host": "Host LocalHost RemoteHost make_host",
            "hosts.launched": "ProcessHandle",
            "hosts.ssh_config": "SSHConfig",
            "protocol.display": "visible visible_block",
            "protocol.events": """
                AttentionEvent BrowserEvent CallerMessageEvent
                ClientMessageEvent DeliverableEvent DoneEvent ErrorEvent
                LogEvent StatusEvent UnknownLine
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
                DELIVERABLE_QUEUE_BOUND Deliverable DeliverableCallback
                DeliverableFileCallback fetch_deliverable_text
            """,
            "session.driver": "run_log_protocol_session",
            "session.plan": "HookCallback",
            "session.result": "SessionResult",
            "session.spec": "Claude Command",
            "session.supervise": "supervise",
            "store": "Store",
        },
    )
