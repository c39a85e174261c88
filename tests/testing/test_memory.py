"""A hook can be tested in memory, and what happens there is what happens on a host."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from optio_agents import errors
from optio_agents.context import HookContext
from optio_agents.hosts.host import Host, LocalHost
from optio_agents.session import run_log_protocol_session
from optio_agents.store.memory import MemoryJournal
from optio_agents.testing.memory import MemoryContext, MemoryHost
from tests.support.timeouts import BOUND


async def review(_: HookContext, path: str, text: str) -> str | None:
    return None if text.startswith("# ") else f"{path} needs a title"


async def work(host: Host, _: HookContext) -> None:
    await host.write_text("deliverables/a.md", "no title")
    await host.write_text("deliverables/b.md", "# Title")
    lines = (
        "STATUS: 50% writing",
        "DELIVERABLE: deliverables/a.md",
        "DELIVERABLE: ./deliverables/b.md",
        "DELIVERABLE: deliverables/none.md",
        "DELIVERABLE: deliverables/no\ufffdne.md ",
        "DELIVERABLE: ../other",
        "DELIVERABLE: deliverables",
        "DONE: both",
    )
    log = (await host.fetch_bytes_from_host(f"{host.workdir}/optio.log")).decode()
    await host.write_text("optio.log", log + "".join(f"{line}\n" for line in lines))


async def test_a_session_in_memory_is_the_one_on_a_real_host(tmp_path: Path) -> None:
    told = []
    for host in (LocalHost(str(tmp_path / "task")), MemoryHost()):
        context, said = MemoryContext(), list[str]()

        async def sender(text: str, said: list[str] = said) -> None:
            said.append(text)

        with anyio.fail_after(BOUND):
            async with host:
                result = await run_log_protocol_session(
                    host,  # type: ignore[arg-type]
                    context,
                    body=work,
                    on_deliverable=review,
                    agent_sender=sender,
                )
        rows = [(d.path, d.size, d.sha256, d.taken) for d in result.deliverables]
        told.append((result.outcome, result.summary, rows, said, context.progress[:1]))
    assert told[0] == told[1]
    assert told[1][0] == "done"
    assert any("needs a title" in text for text in told[1][3])


async def test_lines_that_are_appended_while_it_runs_arrive_one_by_one() -> None:
    host, context, heard = MemoryHost(), MemoryContext(), list[str]()

    async def body(_: Host, hook: HookContext) -> None:
        for number in range(3):
            host.append(f"ATTENTION: {number}")
            while len(context.attention) <= number:
                await anyio.lowlevel.checkpoint()
            heard.append(context.attention[-1])
        host.append("DONE")

    with anyio.fail_after(BOUND):
        await run_log_protocol_session(host, context, body=body)  # type: ignore[arg-type]
    assert heard == ["0", "1", "2"]


async def test_an_error_of_the_agent_is_an_error_here_too() -> None:
    host = MemoryHost()

    async def body(_: Host, hook: HookContext) -> None:
        host.append("ERROR: no compiler")

    with anyio.fail_after(BOUND), pytest.raises(errors.AgentReportedError, match="no compiler"):
        await run_log_protocol_session(host, MemoryContext(), body=body)  # type: ignore[arg-type]


async def test_nobody_answers_for_a_command_unless_somebody_was_named() -> None:
    with pytest.raises(errors.HostError, match="commands="):
        await MemoryHost().run_command("true")


async def test_a_line_that_cannot_be_recorded_is_not_handed_over() -> None:
    class Full(MemoryJournal):
        async def record(self, *_: object) -> None:
            raise errors.StoreError("no space left")

    host, context = MemoryHost(), MemoryContext()

    async def body(_: Host, hook: HookContext) -> None:
        host.append("ATTENTION: look")
        await anyio.sleep_forever()

    with anyio.fail_after(BOUND), pytest.raises(errors.StoreError, match="no space left"):
        await run_log_protocol_session(
            host,  # type: ignore[arg-type]
            context,
            body=body,
            journal=Full(),
        )
    assert context.attention == []
