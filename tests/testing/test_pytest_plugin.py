"""The fixtures that we publish, used as their readers would use them."""

from __future__ import annotations

from typing import Any

import anyio

from optio_agents import agents
from tests.support.timeouts import BOUND

pytest_plugins = "optio_agents.testing.pytest_plugin"


async def review(hook_ctx: Any, path: str, text: str) -> str | None:
    return None if text.strip() else f"{path} is empty"


async def test_a_hook_is_tested_without_a_host_and_without_an_agent(
    optio_memory_host: Any, optio_context: Any
) -> None:
    from optio_agents import run_log_protocol_session

    host = optio_memory_host({"deliverables/empty.md": ""})

    async def body(*_: Any) -> None:
        host.append("DELIVERABLE: deliverables/empty.md")
        host.append("DONE")

    with anyio.fail_after(BOUND):
        result = await run_log_protocol_session(
            host, optio_context(), body=body, on_deliverable=review
        )
    assert "empty.md is empty" in (result.deliverables[0].reply or "")


async def test_an_agent_runs_on_a_host_of_the_tests_own(
    optio_local_host: Any, optio_agent: Any
) -> None:
    with anyio.fail_after(BOUND):
        async with optio_local_host() as host:
            await host.setup_workdir()
            async with agents.start(host, optio_agent("STATUS: 5%", "exit 3")) as agent:
                assert (await agent.wait()).exit_code == 3
            assert await host.fetch_bytes_from_host("optio.log") == b"STATUS: 5%\n"


async def test_a_recorded_claude_plays(optio_transcript: Any) -> None:
    with anyio.fail_after(BOUND):
        async with optio_transcript("one-turn") as conversation:
            said: list[str] = []
            conversation.on_message(said.append)
            await conversation.ask("Say one.")
    assert said


async def test_a_network_breaks_when_it_is_told_to(optio_fault_proxy: Any) -> None:
    async def echo(stream: Any) -> None:
        async with stream:
            await stream.send(await stream.receive())

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks, optio_fault_proxy("127.0.0.1", port) as way:
            tasks.start_soon(listener.serve, echo)
            with anyio.fail_after(BOUND):
                async with await anyio.connect_tcp("127.0.0.1", way.port) as stream:
                    await stream.send(b"x")
                    assert await stream.receive() == b"x"
            tasks.cancel_scope.cancel()


def test_the_corpus_is_at_hand(optio_log_corpus: Any) -> None:
    assert len(optio_log_corpus) > 20
