"""A `ProcessContext` for sessions that no deployment started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .observe import FromAgent, NeedsYou, OpenBrowser, Progressed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .observe import Eyes


class StandaloneContext:
    """Shows what it is told to whoever watches; the lines that said so are in the journal."""

    def __init__(self, session: str, eyes: Eyes, *, metadata: Mapping[str, Any]) -> None:
        self.process_id = session
        self.params: Mapping[str, Any] = {}
        self.metadata = metadata
        self.cancellation_flag = asyncio.Event()
        self._eyes = eyes

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        self._eyes(Progressed(percent, message))

    def should_continue(self) -> bool:
        return not self.cancellation_flag.is_set()

    async def request_browser_open(self, url: str) -> None:
        self._eyes(OpenBrowser(url))

    async def need_attention(self, reason: str) -> None:
        self._eyes(NeedsYou(reason))

    async def client_message(self, keyword: str, data: Any) -> None:
        self._eyes(FromAgent(keyword, data))
