"""What a turn was asked to return: whether its text is that, and the value that it is.

A caller wants a type as pydantic knows types, or a JSON schema. Who works on the turn in another
process, or after a crash, knows the schema alone, which is what is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .messages import Message, plain

if TYPE_CHECKING:
    from optio_agents.schemas import AnswerShape


def typed(message: Message, returns: Any) -> Message:
    """*message* with its value as *returns*, which its JSON fits."""
    from pydantic import TypeAdapter

    value = _validated(message, returns)
    made = message.but()
    made.__dict__["_said"] = message.exchange()
    if not isinstance(returns, Mapping):
        value = TypeAdapter(returns).validate_python(value)
    object.__setattr__(made, "value", value)
    return made


def misfit(text: str, returns: Any, schema: Any) -> str | None:
    """What is wrong with *text* as what is wanted; *schema* counts where nobody here has a type."""
    try:
        if returns is not None:
            _validated(Message(text), returns)
        elif schema is not None and (shape := _shape(schema)) is not None:
            shape.check(_json(text))
    except ValueError as error:
        return str(error)
    return None


def _validated(message: Message, returns: Any) -> Any:
    """The JSON value of *message* as *returns* wants it. Raises ValueError if it does not fit."""
    from pydantic import TypeAdapter

    value = _json(message.text) if message.value is None else message.value
    if isinstance(returns, Mapping):  # a JSON Schema
        if (shape := _shape(returns)) is not None:
            shape.check(plain(value))
        return value
    adapter = TypeAdapter(returns)
    return adapter.dump_python(adapter.validate_python(plain(value)), mode="json")


def _shape(schema: Any) -> AnswerShape | None:
    from optio_agents.schemas import AnswerShape

    try:
        return AnswerShape(schema)
    except ValueError:  # there is nothing to check it with
        return None


def _json(text: str) -> Any:
    words = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return json.loads(words)
    except ValueError:
        return text
