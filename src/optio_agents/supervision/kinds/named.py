"""Agents by name, as data: how each is started, asked for a model, and told apart.

What is peculiar to an agent on its wire stands in `conversation.acp.traits`, by the name that it
gives itself; here is what must be known before it can say anything. The rows of kind "command" are
agents without a wire: each is started with its prompt, acts unasked, and ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One agent, which its program has the name of.

    Variables in *keys* are credentials: handed over only where they are named.
    """

    name: str
    kind: str
    install: str
    keys: Sequence[str] = ()
    arguments: Sequence[str] = ()
    model_option: str | None = None  # in front of the model; None: it takes none there
    model_variable: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None  # in front of one that is a command's last argument; else its input

    @property
    def acts_unasked(self) -> bool:
        """It runs as a plain command: it asks for nothing, and hears no messages."""
        return self.kind == "command"

    def argv(self, executable: str | None, model: str | None, options: Sequence[str]) -> list[str]:
        """Its command line. Raises ValueError: it takes no *model*."""
        if model and not (self.model_option or self.model_variable):
            raise ValueError(f"{self.name} takes its model from its own settings")
        chosen = [self.model_option, model] if model and self.model_option else []
        return [executable or self.name, *self.arguments, *chosen, *options]

    def variables(self, model: str | None) -> dict[str, str]:
        """What it needs in its environment."""
        chosen = {self.model_variable: model} if model and self.model_variable else {}
        return {**self.env, **chosen}


def _npm(package: str) -> str:
    return f"npm install -g {package}"


ROWS = {
    row.name: row
    for row in (
        AgentRow(
            "claude",
            "claude",
            f"{_npm('@anthropic-ai/claude-code')}, or see https://claude.com/claude-code",
            ("ANTHROPIC_API_KEY",),
        ),
        AgentRow("codex", "codex", _npm("@openai/codex"), ("OPENAI_API_KEY",)),
        AgentRow(
            "gemini",
            "acp",
            _npm("@google/gemini-cli"),
            ("GEMINI_API_KEY",),
            ("--acp",),
            model_option="--model",
        ),
        AgentRow(
            "opencode",
            "acp",
            _npm("opencode-ai"),
            ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
            ("acp",),
            # else it does not ask
            env={"OPENCODE_PERMISSION": '{"bash":"ask","edit":"ask","webfetch":"ask"}'},
        ),
        AgentRow(
            "qwen",
            "acp",
            f"{_npm('@qwen-code/qwen-code')} (Node 22)",
            ("OPENAI_API_KEY",),
            ("--acp",),
            model_option="--model",
        ),
        AgentRow("kimi", "acp", f"{_npm('@moonshot-ai/kimi-code')} (Node 22.19)", (), ("acp",)),
        AgentRow(
            "copilot",
            "acp",
            _npm("@github/copilot"),
            ("GH_TOKEN", "COPILOT_PROVIDER_API_KEY"),
            ("--acp",),
            model_variable="COPILOT_MODEL",
        ),
        AgentRow(
            "aider",
            "command",
            "python3 -m pip install aider-chat",
            ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
            # --yes-always would run no commands; where its input has ended, it takes a yes as given
            ("--no-check-update", "--no-show-release-notes", "--no-fancy-input"),
            model_option="--model",
            prompt="--message",
        ),
        AgentRow(
            "amp",
            "command",
            _npm("@sourcegraph/amp"),
            ("AMP_API_KEY",),
            ("--execute", "--dangerously-allow-all"),
        ),
        AgentRow(
            "crush",
            "command",
            _npm("@charmland/crush"),
            ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
            ("run", "--quiet"),
            model_option="--model",
        ),
        AgentRow(
            "cursor-agent",
            "command",
            "see https://cursor.com/cli",
            ("CURSOR_API_KEY",),
            ("--print", "--force"),
            model_option="--model",
            prompt="",
        ),
        AgentRow(
            "droid",
            "command",
            _npm("@factory/cli"),
            ("FACTORY_API_KEY",),
            ("exec", "--skip-permissions-unsafe"),
            model_option="--model",
        ),
        AgentRow(
            "goose",
            "command",
            "see https://block.github.io/goose",
            ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"),
            ("run", "--no-session", "--instructions", "-"),
            model_variable="GOOSE_MODEL",
            env={"GOOSE_MODE": "auto"},  # else it waits for a person who is not there
        ),
    )
}
