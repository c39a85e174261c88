"""What is to be run: a program, or Claude Code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from optio_agents.conversation.claude import PermissionMode
    from optio_agents.hosts.environment import EnvBase


@dataclass(frozen=True, slots=True)
class Command:
    """Any program. It is told how to use the log in front of its *prompt*, on its input.

    In a work directory of ours, AGENTS.md tells it as well. *reads_to_end*: it begins when its
    input has ended, so nobody can talk to it later, and its prompt promises no replies.
    """

    argv: Sequence[str]
    _: KW_ONLY
    prompt: str | None = None
    reads_to_end: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv:
            raise ValueError("argv is a list of at least one argument")


@dataclass(frozen=True, slots=True)
class Claude:
    """The claude CLI. It is told how to use the log by its system prompt.

    *options* are further arguments for it; never put a secret there. Values in *env* are not
    stored anywhere, and those whose names look like credentials are hidden from all we record.
    """

    prompt: str | None = None
    _: KW_ONLY
    model: str | None = None
    permission_mode: PermissionMode | None = None
    allowed_tools: Sequence[str] = ()
    options: Sequence[str] = ()
    executable: str = "claude"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    env_base: EnvBase = "login"


AgentSpec: TypeAlias = Command | Claude
