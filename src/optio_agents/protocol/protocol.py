"""The protocol with one choice of features: its parser, its prompt, and its browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .events import LogEvent
from .features import BrowserMode, ProtocolFeatures
from .parser import parse_log_line
from .prompt import build_log_channel_prompt

if TYPE_CHECKING:
    from optio_agents.hosts import Host


@dataclass(frozen=True, slots=True)
class Protocol:
    """What an agent is taught, and how what it then writes is read."""

    documentation: str
    parse_log_line: Callable[[str], LogEvent]
    features: ProtocolFeatures

    @property
    def browser(self) -> BrowserMode:
        return self.features.browser

    async def prepare_browser_shims(self, host: Host) -> dict[str, str] | None:
        """Install on *host* what stands in for a browser; the environment that makes it found."""
        from optio_agents.browser_shims import prepare_browser_shims

        return await prepare_browser_shims(host, self.browser)


def get_protocol(
    *,
    browser: BrowserMode = "ignore",
    client_messages: bool = False,
    caller_messages: bool = False,
) -> Protocol:
    """The protocol with these features."""
    features = ProtocolFeatures(browser, client_messages, caller_messages)
    return Protocol(
        documentation=build_log_channel_prompt(features),
        parse_log_line=partial(parse_log_line, features=features),
        features=features,
    )
