"""What the engine packages of the optio family take from optio-agents, beside a session.

An optio deployment runs coding agents by engine packages (`optio-claudecode`, `optio-codex`, …),
which import `optio_agents.todos`, `optio_agents.seeds` and so on. All of that stands here, above
everything that it is built on, and nothing else imports it: who supervises agents by a hook, by
`supervise` or by the command never walks through this room, and loads none of it.

`values/` holds what a task is configured with and what a view is told, pure data; `machinery/`
what does something about an agent for an engine. Both lie on the package's search path: a module
of theirs is `optio_agents.text` and has no other name, so they import one another relatively and
nobody else says where they lie. The names below are published as `optio_agents.NAME`, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machinery.input_listener import *
    from .machinery.steering import *
    from .machinery.tmux_input import *
    from .values.account import *
    from .values.agent_info import *
    from .values.config_types import *
    from .values.custom_controls import *
    from .values.mcp import *
    from .values.session_controls import *
    from .values.text import *

HOMES = {
    name: home
    for home, names in {
        "account": "EMPTY AccountInfo UsageWindow is_limited",
        "agent_info": "AgentInfo",
        "config_types": """
            AllowedDir BlobCryptoConfigMixin ClaustrumConfigMixin ConversationMode
            ResumeConfigMixin SeedProvider SeedUnavailableError SessionControlsConfigMixin
            ThinkingVerbosity TOOL_VERBOSITIES ToolVerbosity WelcomeCard WelcomeConfigMixin
        """,
        "custom_controls": """
            ControlSettings CustomControl CustomControlsConfigMixin CustomOption
        """,
        "input_listener": "serialized start_input_listener",
        "mcp": "McpConfigMixin McpServer McpServersProvider resolve_mcp_servers",
        "session_controls": "ControlOption SessionControl",
        "steering": """
            BUSY_SEND_VALUES BusySend BusySendDeclaration SendOutcome Steering resolve_busy_send
        """,
        "text": "Text check_text resolve_text",
        "tmux_input": "NAV_KEYS send_key_to_tmux send_text_to_tmux",
    }.items()
    for name in names.split()
}
__all__ = sorted(HOMES)


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(import_module(f"optio_agents.{HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
