"""What is peculiar to the agents that speak ACP, by the name each gives in `initialize`. Pure.

One row each, as measured on the real ones. Who is not in here is met with care: it is put into a
mode that asks where it has one whose name we know, a leading slash is text to it, and its turns
are completed on the stop reason alone, which `TurnResult.evidence` says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

# What in the end of a turn proves that the model was asked, where an agent ends a turn whose calls
# all failed as if all were well: its usage is there, has grown since the turn before, is not zero.
Proof: TypeAlias = Literal["present", "grown", "positive"]


@dataclass(frozen=True, slots=True)
class Traits:
    """One agent."""

    asks: Sequence[str] = ()  # its modes that ask before it does something, the best one first
    proof: Proof | None = None
    slash: str = ""  # what in front of a "/" keeps it text
    notice: re.Pattern[str] | None = None  # chunks that are no part of an answer
    failing: re.Pattern[str] | None = None  # an answer that tells of a failure, as a whole
    mixes: bool = True  # images beside other files in one message; else it drops them


_WARNING = re.compile(r"(\*\*)?Warning:")
_API_ERROR = re.compile(r"API Error: ")
_COPILOT_NOTICE = re.compile(r"(Info|Error|Warning): ")

TRAITS = {
    "OpenCode": Traits(proof="positive", slash="\u200b"),  # asks where its settings say so
    "gemini-cli": Traits(asks=("default",), mixes=False),
    "qwen-code": Traits(asks=("default",), slash=" "),
    "Kimi Code CLI": Traits(asks=("default",), slash=" "),
    "Copilot": Traits(proof="grown", notice=_COPILOT_NOTICE),
    "@agentclientprotocol/claude-agent-acp": Traits(
        asks=("default",), proof="positive", slash=" ", notice=_WARNING, failing=_API_ERROR
    ),
    "@agentclientprotocol/codex-acp": Traits(asks=("read-only",), proof="present", notice=_WARNING),
}
UNKNOWN = Traits(asks=("default", "ask", "manual", "read-only"), slash="\u200b")


def traits_of(name: object) -> Traits:
    """Of the agent that calls itself *name*."""
    return TRAITS.get(name, UNKNOWN) if isinstance(name, str) else UNKNOWN
