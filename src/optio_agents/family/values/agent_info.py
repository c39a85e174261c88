"""Who an engine is, for people."""

from dataclasses import dataclass

__all__ = ["AgentInfo"]


@dataclass(frozen=True)
class AgentInfo:
    """The agent that an engine runs."""

    slug: str
    name: str
    url: str
