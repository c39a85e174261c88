"""What the engine packages of the optio family take from optio-agents, beside a session.

An optio deployment runs coding agents by engine packages (`optio-claudecode`, `optio-codex`, …),
which import `optio_agents.todos`, `optio_agents.seeds` and so on. All of that stands here, above
everything that it is built on, and nothing else imports it: who supervises agents by a hook, by
`supervise` or by the command never walks through this room, and loads none of it.

`values/` holds what a task is configured with and what a view is told, pure data; `machinery/`
what does something about an agent for an engine. `names/` lies on the package's search path and
holds a line for each published module: `optio_agents.text` is `family.values.text`, the very
module. The names below are published as `optio_agents.NAME`, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .values.account import *
    from .values.agent_info import *
    from .values.config_types import *
    from .values.custom_controls import *
    from .values.mcp import *
    from .values.text import *

HOMES = {
    name: home
    for home, names in {
        "account": "AccountInfo UsageWindow is_limited",
        "agent_info": "AgentInfo",
        "config_types": """
            AllowedDir BlobCryptoConfigMixin ClaustrumConfigMixin ConversationMode
            ResumeConfigMixin SeedProvider SeedUnavailableError SessionControlsConfigMixin
            ThinkingVerbosity TOOL_VERBOSITIES ToolVerbosity WelcomeCard WelcomeConfigMixin
        """,
        "custom_controls": """
            ControlSettings CustomControl CustomControlsConfigMixin CustomOption
        """,
        "mcp": "McpConfigMixin McpServer McpServersProvider resolve_mcp_servers",
        "text": "Text check_text resolve_text",
    }.items()
    for name in names.split()
}
__all__ = sorted(HOMES)


def __getattr__(name: str) -> object:
    if name in HOMES:
        return getattr(import_module(f".values.{HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
