"""Turns, requests to models and uses of tools as spans of OpenTelemetry, where that is set up.

The names of its gen_ai conventions stand here and nowhere else. A program that has set a tracer
provider gets the spans; without one nothing is imported, and nothing costs. A turn carries in its
options where it hangs, so the spans of a turn that goes on in another process hang there as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from optio_agents.team.turn import Suspend, Turn

NOTHING = nullcontext()  # a block that does nothing, also an asynchronous one
_SCOPE = "optio_agents.team"


class Tracing:
    """The tracer of this process, as it is when a team is started; false without one."""

    def __init__(self) -> None:
        api = sys.modules.get("opentelemetry.trace")  # who has a provider has imported it
        provider = api and api.get_tracer_provider()
        proxy = type(provider).__name__ == "ProxyTracerProvider"
        self._api: Any = api
        self._tracer: Any = None if provider is None or proxy else provider.get_tracer(_SCOPE)

    def __bool__(self) -> bool:
        return self._tracer is not None

    def here(self) -> str:
        """Where a span that began now would hang, as a `traceparent`."""
        place = self._api.get_current_span().get_span_context()
        if not place.is_valid:
            return ""
        return f"00-{place.trace_id:032x}-{place.span_id:016x}-{int(place.trace_flags):02x}"

    def turn(self, turn: Turn) -> AbstractContextManager[Any]:
        """While a participant works on *turn*; again when it goes on after a long sleep."""
        if self._tracer is None:
            return NOTHING
        about = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": turn.name,
            "gen_ai.conversation.id": turn.row.root,
            "optio_agents.turn": turn.id,
        }
        place = self._place(turn.row.options.get("trace", ""))
        return self._span(f"invoke_agent {turn.name}", about, context=place, current=True)

    def chat(self, model: str) -> AbstractContextManager[Any]:
        """During one request to a model; `answered` adds what came of it."""
        if self._tracer is None:
            return NOTHING
        provider, _, name = model.partition(":")
        about = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": name,
        }
        return self._span(f"chat {name}", about, kind=self._api.SpanKind.CLIENT)

    def answered(self, span: Any, response: Any) -> None:
        """Add what a model has answered, and what that took, to the span of its request."""
        if span is not None:
            span.set_attribute("gen_ai.usage.input_tokens", response.usage.input_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", response.usage.output_tokens)
            if response.finish_reason:
                span.set_attribute("gen_ai.response.finish_reasons", [response.finish_reason])
            if response.model_name:
                span.set_attribute("gen_ai.response.model", response.model_name)

    def tool(self, name: str, call: str) -> AbstractContextManager[Any]:
        """While a tool runs; what it calls hangs below it."""
        if self._tracer is None:
            return NOTHING
        about = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call,
            "gen_ai.tool.type": "function",
        }
        return self._span(f"execute_tool {name}", about, current=True)

    def _place(self, parent: str) -> Any:
        if not parent:
            return None
        _, trace, span, flags = parent.split("-")
        api = self._api
        place = api.SpanContext(
            int(trace, 16),
            int(span, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(flags, 16)),
        )
        return api.set_span_in_context(api.NonRecordingSpan(place))

    @contextmanager
    def _span(
        self,
        name: str,
        about: dict[str, str],
        *,
        context: Any = None,
        kind: Any = None,
        current: bool = False,
    ) -> Iterator[Any]:
        api = self._api
        kind = kind or api.SpanKind.INTERNAL
        span = self._tracer.start_span(name, context=context, kind=kind, attributes=about)
        shown = api.use_span(span, record_exception=False, set_status_on_exception=False)
        try:
            with shown if current else NOTHING:
                yield span
        except Suspend:
            raise
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(api.StatusCode.ERROR, str(error)[:200])
            raise
        finally:
            span.end()


def export_spans() -> None:
    """Send spans to where the variables of OpenTelemetry say, if they do: for the command.

    `OTEL_EXPORTER_OTLP_ENDPOINT` says where, `OTEL_EXPORTER_OTLP_PROTOCOL` how (`grpc`, or
    `http/protobuf`). Raises ImportError without the extra `[otel]`.
    """
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    exporter: SpanExporter
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter as HttpExporter,
        )

        exporter = HttpExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
