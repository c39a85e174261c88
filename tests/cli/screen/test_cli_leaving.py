"""Leaving several sessions, where it falls between two looks at what runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import anyio
import pytest

from optio_agents.cli import exits
from optio_agents.cli.options import CommandOptions
from optio_agents.cli.screen.records import LinesView
from optio_agents.cli.screen.supervised import Run, ShownSession, Terminal
from optio_agents.store import Store
from tests.support.timeouts import BOUND


@pytest.fixture
def signals() -> Iterator[None]:
    """As they were, for whoever shows sessions ends with them switched off."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
async def test_a_session_that_is_found_while_one_leaves_is_not_begun() -> None:
    async def run(_: ShownSession) -> int:
        await anyio.sleep_forever()
        return exits.DONE

    async def leave_and_find(terminal: Terminal) -> dict[str, Run]:
        terminal.leave()
        return {"late": run}

    terminal = Terminal(options=CommandOptions(), view=LinesView(as_lines=True), store=Store())
    with anyio.fail_after(BOUND):
        assert await terminal.show({}, more=leave_and_find) == exits.DONE
    assert terminal.sessions == []
