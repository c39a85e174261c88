"""What an agent may do beyond the keywords that are always on."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

BrowserMode: TypeAlias = Literal["ignore", "suppress", "redirect"]


@dataclass(frozen=True, slots=True)
class ProtocolFeatures:
    """The optional parts of the protocol.

    *browser*: leave it to the host ("ignore"), tell the agent that there is none ("suppress"), or
    hand its addresses to the user ("redirect").

    Raises:
        ValueError: *browser* is none of these.
    """

    browser: BrowserMode = "ignore"
    client_messages: bool = False
    caller_messages: bool = False

    def __post_init__(self) -> None:
        if self.browser not in get_args(BrowserMode):
            modes = ", ".join(get_args(BrowserMode))
            raise ValueError(f"browser is one of {modes}, not {self.browser!r}")


EVERYTHING = ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)
"""All of it: for whoever reads a log without knowing what its agent was taught."""
