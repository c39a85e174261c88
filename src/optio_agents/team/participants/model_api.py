"""The client of one model, and how messages of a team become those of an API and back."""

from __future__ import annotations

import json
from dataclasses import replace
from inspect import signature
from typing import Any, Protocol

from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import infer_model
from pydantic_ai.providers import infer_provider_class
from pydantic_ai.usage import RequestUsage

from optio_agents.team.errors import NoCredential
from optio_agents.team.messages import Attachment, Message

_SCHEMAS = 1000  # of tools that are kept in the form of a provider


class ModelSpec(Protocol):
    """What a model participant is made of; see `model`."""

    model: str
    instructions: str
    tools: list[Any]
    shared: bool
    settings: dict[str, Any]
    base_url: str | None
    credential: Any
    context_window: int | None


class Client:
    """The connection of one model; what is missing for it is said when it is made."""

    def __init__(self, spec: ModelSpec, name: str) -> None:
        self.name = spec.model
        self._own: Any = None
        self._unpriced: set[str | None] = set()
        provider = spec.model.partition(":")[0]

        def connect(kind: str) -> Any:
            options = {"base_url": spec.base_url, "api_key": spec.credential}
            given = {key: value for key, value in options.items() if value is not None}
            if spec.base_url is not None and spec.credential is None:
                given["api_key"] = "none"  # a server of one's own may want none
            sort: Any = infer_provider_class(kind)
            if spec.base_url is None or "base_url" in signature(sort).parameters:
                return sort(**given)
            from openai import AsyncOpenAI  # a compatible provider whose address is its own

            self._own = AsyncOpenAI(**given)
            return sort(openai_client=self._own)

        try:
            self.model = infer_model(spec.model, connect)
        except UserError as error:
            raise NoCredential(f"{name}: the provider {provider} cannot be used: {error}") from None
        except ValueError as error:
            raise NoCredential(f"{name}: there is no provider {provider!r}: {error}") from None
        if sort := self.model.profile.get("json_schema_transformer"):
            self.model.profile = {**self.model.profile, "json_schema_transformer": _once(sort)}
        self.window = spec.context_window or self.model.profile.get("context_window")

    @property
    def priced(self) -> bool:
        """Whether it is known what it costs."""
        return self.price(ModelResponse(parts=[], usage=RequestUsage(input_tokens=1))) is not None

    def price(self, response: ModelResponse) -> float | None:
        """What an answer cost, in US dollars; None where nobody knows."""
        asked = replace(  # it may tell of another name of the model
            response,
            model_name=self.model.model_name,
            provider_name=self.model.system,
            provider_url=self.model.base_url,
        )
        for one in (response, asked):
            if one.model_name not in self._unpriced:  # to look for one in vain takes a while
                try:
                    return float(one.cost().total_price)
                except (LookupError, AssertionError, ValueError):
                    self._unpriced.add(one.model_name)
        return None

    async def close(self) -> None:
        async with self.model:  # leaving it closes the connections of its provider
            pass
        if self._own is not None:
            await self._own.close()


def _once(sort: Any) -> Any:
    """*sort*, which brings the schema of a tool into the form of a provider, once for each.

    Else that is done for all tools in every request, and takes a good part of its time.
    """
    known: dict[tuple[int, bool | None], tuple[Any, Any]] = {}

    def transform(schema: Any, *, strict: bool | None = None) -> Any:
        key = id(schema), strict
        if key not in known:
            one = sort(schema, strict=strict)
            walked = one.walk()
            one.walk = lambda: walked
            if len(known) == _SCHEMAS:
                known.clear()
            known[key] = schema, one  # while it is kept nothing else has its id
        return known[key][1]

    return transform


def prompt(message: Message) -> UserPromptPart:
    text = message.text
    if not text and message.value is not None:
        text = json.dumps(message.value, ensure_ascii=False)
    if not message.attachments:
        return UserPromptPart(text)
    return UserPromptPart([text, *map(file_part, message.attachments)])


def file_part(attachment: Attachment) -> Any:
    if attachment.data is not None:
        return BinaryContent(attachment.data, media_type=attachment.media_type)
    kinds = {"image": ImageUrl, "audio": AudioUrl, "video": VideoUrl}
    kind = kinds.get(attachment.media_type.partition("/")[0], DocumentUrl)
    return kind(url=str(attachment.url), media_type=attachment.media_type)


def text_of(event: Any) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return str(event.part.content)
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return str(event.delta.content_delta)
    return ""


def arguments_of(use: ToolCallPart) -> dict[str, Any]:
    """Its arguments, repaired where they are wrapped. Raises ValueError, with the position."""
    if isinstance(use.args, dict):
        return use.args
    text = (use.args or "{}").strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("they are no object (line 1 column 1)")  # noqa: TRY004
    return found
