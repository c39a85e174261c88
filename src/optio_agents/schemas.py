"""JSON schemas of Python's types: a function as a tool, and the value that an answer must have."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import isawaitable
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class FunctionTool:
    """A typed function as a tool: its schema is its signature, its description its docstring.

    A parameter is described by `Annotated[int, "how many"]`, or below "Args:" in the docstring. A
    plain function runs in a thread.
    """

    def __init__(self, function: Callable[..., Any], *, name: str = "") -> None:
        words = inspect.getdoc(function) or ""
        self._function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.description = words.partition("\nArgs:")[0].strip()
        self._model = arguments_model(function, words)

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return schema_of(self._model)

    async def call(self, arguments: Mapping[str, Any], *, id: str) -> Any:  # noqa: A002
        """Call it. Raises ValueError, which says what is wrong with *arguments*, before it runs."""
        from pydantic import ValidationError

        try:
            model = self._model.model_validate(dict(arguments))
        except ValidationError as error:
            raise ValueError(f"{self.name} was not run: {_in_words(error)}") from None
        given = {name: getattr(model, name) for name in type(model).model_fields}
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**given)
        result = await asyncio.to_thread(self._function, **given)
        return await result if isawaitable(result) else result


def arguments_model(
    function: Callable[..., Any],
    words: str,
    *,
    without: frozenset[str] = frozenset(),
    fixed: Mapping[str, Any] | None = None,
) -> Any:
    """A pydantic model of the arguments of *function*, whose docstring is *words*.

    *without* are parameters that nobody gives, *fixed* are other defaults.
    """
    from pydantic import ConfigDict, Field, create_model

    hints = get_type_hints(function, include_extras=True)
    described, fields = dict(_described(words)), dict[str, Any]()
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without or parameter.kind in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
            continue
        kind, about = hints.get(name, Any), described.get(name)
        if get_origin(kind) is Annotated:
            about = next((one for one in get_args(kind)[1:] if isinstance(one, str)), about)
        default = (fixed or {}).get(name, parameter.default)
        default = ... if default is parameter.empty else default
        fields[name] = (kind, Field(default, description=about))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(getattr(function, "__name__", "arguments"), __config__=config, **fields)


def schema_of(model: Any) -> dict[str, Any]:
    """The JSON schema of a model of arguments."""
    made = _without_titles(model.model_json_schema())
    kept = {key: made[key] for key in ("properties", "required", "$defs") if key in made}
    return {"type": "object", "properties": {}, **kept}


def _described(words: str) -> Iterator[tuple[str, str]]:
    """The parameters that a docstring describes below "Args:"."""
    for line in words.partition("Args:\n")[2].splitlines():
        found = re.match(r"\s+(\w+)(?:\s*\([^)]*\))?:\s+(.+)", line)
        if found is None:
            return
        yield found[1], found[2]


def _without_titles(value: Any) -> Any:
    """*value* without the titles that nobody asked for; a property may well be called so."""
    if isinstance(value, list):
        return [_without_titles(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: {name: _without_titles(one) for name, one in inner.items()}
        if key in {"properties", "$defs"}
        else _without_titles(inner)
        for key, inner in value.items()
        if key != "title" or not isinstance(inner, str)
    }


def _in_words(error: Any) -> str:
    """What a pydantic ValidationError is about."""
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"])))
        for one in error.errors()
    )


# What an answer must be


class AnswerShape:
    """The value that an answer must have: a type as pydantic knows types, or a JSON schema."""

    def __init__(self, wanted: Any) -> None:
        """Raises ValueError where it is a JSON schema, and nothing is there to check it with."""
        if isinstance(wanted, Mapping):
            self.schema, self._check = dict(wanted), _schema_check(wanted)
            return
        from pydantic import TypeAdapter

        adapter = TypeAdapter[Any](wanted)
        self.schema, self._check = _without_titles(adapter.json_schema()), _type_check(adapter)

    @property
    def instructions(self) -> str:
        """What asks an agent for it."""
        schema = json.dumps(self.schema, ensure_ascii=False)
        return f"Answer with JSON alone, no words around it, that fits this JSON schema:\n{schema}"

    def read(self, text: str) -> Any:
        """The value that stands in *text*; words and a code fence around it are forgiven.

        Raises ValueError, which says what is wrong with it.
        """
        return self.check(_json_in(text))

    def check(self, value: Any) -> Any:
        """*value*, which came of JSON, as it is wanted. Raises ValueError."""
        return self._check(value)


def _type_check(adapter: Any) -> Callable[[Any], Any]:
    from pydantic import ValidationError

    def check(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(_in_words(error)) from None

    return check


def _schema_check(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    try:
        from jsonschema import SchemaError, ValidationError, validators
    except ImportError:
        words = "to check a JSON schema, install jsonschema; a type needs nothing more"
        raise ValueError(words) from None
    kind = validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"this is no JSON schema: {error.message}") from None
    validator = kind(schema)

    def check(value: Any) -> Any:
        try:
            validator.validate(value)
        except ValidationError as error:
            raise ValueError(f"{error.json_path}: {error.message}") from None
        return value

    return check


def _json_in(text: str) -> Any:
    fenced = re.findall(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    begins = re.search(r"[\[{]", text)
    within = text[begins.start() : max(text.rfind("]"), text.rfind("}")) + 1] if begins else ""
    for candidate in (text, *reversed(fenced), within):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    raise ValueError("it is no JSON")
