"""The public names: added on purpose, removed with a deprecation."""

import ast
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import optio_agents

PUBLIC = """
    Acp AgentError AgentEvent AgentExited AgentReportedError AgentRestarted AgentSender
    AgentStalled AgentTool AgentUnseen AlreadyOwned AnswerOutcome AnswerUnfit Attachment
    AttentionEvent BrowserEvent BrowserMode CALLER_MESSAGE_QUEUE_BOUND CallerMessageCallback
    CallerMessageEvent Claude ClaudeCodeConversation ClaudeTurnResult ClientMessageEvent
    CloseReason Codex Command CommandFailed CommandTimedOut ConnectError ContextUsage
    ControlRefused Conversation ConversationClosed ConversationState Copilot
    DELIVERABLE_QUEUE_BOUND Deliverable DeliverableCallback DeliverableEvent
    DeliverableFileCallback Delivery DeliveryStep DoneCallback DoneChecked DoneEvent DoneRefused
    EndSession Ended EndedByHook Entry ErrorEvent EventHandler FileRefused Gemini Hook
    HookCallback HookContext HookContextProtocol Host HostCommandError HostError HostKeyRefused
    HostLost HostUnreachable InputClosed Journal JournalChanged Kimi LOG_CHANNEL_PROMPT
    LinkChanged LocalHost LogEvent LogLine LoginRefused Machine MemoryJournal MessageHandler
    MessageSent NameTaken NoSuchSession Note Notice Observer OpenCode OpenRequest
    OptioAgentsError PermissionDecision PermissionHandler PermissionRequest PortClosed
    ProcessContext ProcessHandle ProcessId Protocol ProtocolFeatures Qwen RESUME_NOTICE
    RemoteHost RequestDecided RequestOpened Resumed RootRefused RunResult SSHConfig
    SYSTEM_MESSAGE_PREFIX ServerSilent Session SessionBegan SessionEnded SessionEvent
    SessionFailed SessionJournal SessionLimitReached SessionResult SessionState StateChanged
    StatusEvent Store StoreError StoredEvent StoredSession TodosChanged TokenUsage ToolCall
    ToolServer TransferFailed TurnEnded TurnFailed TurnHandler TurnResult Unconfirmed
    UnknownHostName UnknownLine Unsubscribe Usage WorkDirRefused allow_for_session
    answer_questions build_log_channel_prompt claude_code claude_code_adopt compose_agents_md
    default_path fetch_deliverable_text find_session format_log_line get_protocol grants
    make_host parse_log_line questions relativize_deliverable_path run_log_protocol_session
    supervise validate_deliverable_path visible visible_block

    AccountInfo AgentInfo AllowedDir BlobCryptoConfigMixin ClaustrumConfigMixin ControlSettings
    ConversationMode CustomControl CustomControlsConfigMixin CustomOption McpConfigMixin McpServer
    McpServersProvider ResumeConfigMixin SeedProvider SeedUnavailableError
    SessionControlsConfigMixin TOOL_VERBOSITIES Text ThinkingVerbosity ToolVerbosity UsageWindow
    WelcomeCard
    WelcomeConfigMixin check_text is_limited resolve_mcp_servers resolve_text

    BUSY_SEND_VALUES BusySend BusySendDeclaration ControlOption EMPTY NAV_KEYS SendOutcome
    SessionControl Steering TOOL_VERBOSITIES resolve_busy_send send_key_to_tmux
    send_text_to_tmux serialized start_input_listener
"""
# What the outside imports from exactly there.
HOMES = {
    "optio_agents.protocol": """
        AgentSender AttentionEvent BrowserEvent BrowserMode CALLER_MESSAGE_QUEUE_BOUND
        CallerMessageCallback CallerMessageEvent ClientMessageEvent DELIVERABLE_QUEUE_BOUND
        DeliverableCallback DeliverableEvent DoneEvent ErrorEvent HookCallback LogEvent Protocol
        ProtocolFeatures RESUME_NOTICE StatusEvent UnknownLine build_log_channel_prompt
        fetch_deliverable_text get_protocol parse_log_line relativize_deliverable_path
        run_log_protocol_session validate_deliverable_path
    """,
    "optio_agents.context": "HookContext HookContextProtocol HostCommandError RunResult",
    "optio_agents.protocol.parser": """
        AttentionEvent BrowserEvent CallerMessageEvent ClientMessageEvent DeliverableEvent DoneEvent
        ErrorEvent LogEvent ProtocolFeatures StatusEvent UnknownLine parse_log_line
        relativize_deliverable_path validate_deliverable_path
    """,
    "optio_agents.protocol.prompt": "LOG_CHANNEL_PROMPT RESUME_NOTICE build_log_channel_prompt",
}
FACES = ["optio_agents", "optio_agents.protocol"]


def test_the_public_names_are_these() -> None:
    assert set(optio_agents.__all__) == set(PUBLIC.split())


@pytest.mark.parametrize("name", PUBLIC.split())
def test_a_public_name_is_there_and_in_one_piece(name: str) -> None:
    assert getattr(optio_agents, name) is not None
    assert name in dir(optio_agents)


@pytest.mark.parametrize("home", HOMES)
def test_a_name_can_be_imported_from_its_published_home(home: str) -> None:
    module = importlib.import_module(home)
    assert [name for name in HOMES[home].split() if not hasattr(module, name)] == []


def test_type_checkers_see_the_parts_that_names_are_looked_up_in() -> None:
    tree = ast.parse(Path(str(optio_agents.__file__)).read_text())
    starred = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    }
    assert starred == set(optio_agents.PARTS)


@pytest.mark.parametrize("name", PUBLIC.split())
def test_a_name_is_one_thing_wherever_it_is_offered(name: str) -> None:
    parts = [importlib.import_module(f"optio_agents.{part}") for part in optio_agents.PARTS]
    offered = [getattr(part, name) for part in parts if name in part.__all__]
    assert all(one is getattr(optio_agents, name) for one in offered)


@pytest.mark.parametrize("package", FACES)
def test_a_face_has_no_other_names(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'missing'"):
        _ = importlib.import_module(package).missing


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: optio_agents.make_host(3, taskdir="/t"), "a text like 'me@box', and not 3"),  # type: ignore[arg-type]
        (lambda: optio_agents.make_host("box", taskdir=3), "on the host, as text, and not 3"),  # type: ignore[arg-type]
        (lambda: optio_agents.SSHConfig(3), "as in SSHConfig('me@box'), and not 3"),  # type: ignore[arg-type]
        (lambda: optio_agents.parse_log_line(b"DONE"), "and not b'DONE': decode bytes"),  # type: ignore[arg-type]
        (lambda: optio_agents.supervise(None, "x"), "Command(['…']), and not 'x'"),  # type: ignore[arg-type]
        (lambda: optio_agents.supervise("box"), "make_host(…) gives, and not 'box'"),  # type: ignore[arg-type]
        (lambda: optio_agents.supervise(None, store=3), "where its file is, and not 3"),  # type: ignore[arg-type]
        (lambda: optio_agents.Claude(3), "a prompt is text, and not 3"),  # type: ignore[arg-type]
        (lambda: optio_agents.build_log_channel_prompt("x"), "(…), and not 'x'"),  # type: ignore[arg-type]
    ],
    ids=["host", "directory", "login", "line", "agent", "no host", "store", "prompt", "features"],
)
def test_what_is_of_the_wrong_type_is_one_sentence_where_it_is_made(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_login_is_said_as_people_say_it() -> None:
    login = optio_agents.SSHConfig("me@box:2222")
    assert (login.host, login.user, login.port) == ("box", "me", 2222)
    assert login.name == "me@box:2222"
    address = optio_agents.SSHConfig("fe80::1", port=22)
    assert (address.host, address.user, address.port) == ("fe80::1", None, 22)
    assert optio_agents.make_host("me@box", taskdir="/t").machine.name == "me@box"


def test_help_of_the_package_names_ten_names_that_are_there() -> None:
    named = re.findall(r"^    .{20}(\w+) ", optio_agents.__doc__ or "", re.MULTILINE)
    assert len(named) == 10
    assert set(named) <= set(dir(optio_agents))
