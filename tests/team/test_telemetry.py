"""Spans of OpenTelemetry: right nested, and sent by either protocol.

Each in a process of its own, for a tracer provider is set once.
"""

import asyncio
import json
import os
import sys
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from optio_agents.testing.scripted_model import scripted_model
from tests.support.timeouts import BOUND

IN_MEMORY = """
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from optio_agents.team import Team, model, tool

@tool
def shout(word: str) -> str:
    return word.upper()

async def echo(ctx):
    return f"echo {ctx.text}"

async def fails(ctx):
    raise OSError("no")

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

async def main():
    boss = model("openai-chat:m", base_url=sys.argv[1], tools=[shout])
    async with Team({"boss": boss, "echo": echo, "fails": fails}) as team:
        with trace.get_tracer("mine").start_as_current_span("mine"):
            await team.call("boss", "go")
        await team.call("fails").wait_over()
    spans = {one.context.span_id: one for one in exporter.get_finished_spans()}
    name = lambda one: one.name if one else None
    print(json.dumps([
        [one.name, name(spans.get(one.parent.span_id)) if one.parent else None,
         dict(one.attributes), one.status.status_code.name]
        for one in spans.values()
    ]))

asyncio.run(main())
"""


async def run(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    async with asyncio.timeout(BOUND):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_ag_13_turns_requests_and_tools_are_spans_nested_right() -> None:
    replies = [
        {"call": "shout", "arguments": {"word": "hi"}},
        {"call": "call", "arguments": {"name": "echo", "message": "x"}},
        "done",
    ]
    async with scripted_model(*replies) as api:
        spans = json.loads(await run(sys.executable, "-c", IN_MEMORY, api.url))
    nested = {(name, above) for name, above, _, _ in spans}
    assert nested == {
        ("mine", None),
        ("invoke_agent boss", "mine"),
        ("chat m", "invoke_agent boss"),
        ("execute_tool shout", "invoke_agent boss"),
        ("execute_tool call", "invoke_agent boss"),
        ("invoke_agent echo", "execute_tool call"),
        ("invoke_agent fails", None),
    }
    about = {name: attributes for name, _, attributes, _ in spans}
    assert about["chat m"]["gen_ai.usage.input_tokens"] == 10
    assert about["chat m"]["gen_ai.provider.name"] == "openai-chat"
    assert about["invoke_agent echo"]["gen_ai.agent.name"] == "echo"
    assert about["invoke_agent fails"]["error.type"] == "OSError"
    assert {name for name, _, _, status in spans if status == "ERROR"} == {"invoke_agent fails"}


CREW = """
from optio_agents.team import Team

async def echo(ctx):
    return f"echo {ctx.text}"

team = Team({"echo": echo})
"""


def names_in(request: Any) -> list[str]:
    return [
        span.name
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
async def test_ag_14_spans_are_sent_by_the_protocol_named(protocol: str, tmp_path: Path) -> None:
    found: list[str] = []

    class Collector(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - its name
            found.extend(names_in(request))
            return ExportTraceServiceResponse()

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = int(head.split("content-length: ")[1].split("\r\n")[0])
        request = ExportTraceServiceRequest.FromString(await reader.readexactly(size))
        found.extend(names_in(request))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    (tmp_path / "crew.py").write_text(CREW)
    web = await asyncio.start_server(collect, "127.0.0.1", 0)
    rpc = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Collector(), rpc)
    ports = {
        "http/protobuf": web.sockets[0].getsockname()[1],
        "grpc": rpc.add_insecure_port("127.0.0.1:0"),
    }
    rpc.start()
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{ports[protocol]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "XDG_STATE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "optio_agents.cli", "team", "run", "crew.py", "echo", "hi"]
    out = await run(*command, env=env, cwd=tmp_path)
    rpc.stop(None).wait()
    web.close()
    assert out.endswith("echo hi\n")
    assert found == ["invoke_agent echo"]
