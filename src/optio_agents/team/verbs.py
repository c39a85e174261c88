"""The verbs as whoever is no Python speaks them: a model's tools, an agent's stream, a log line.

One dispatcher for all: a name, JSON arguments, and the key under which the caller knows this use
of the verb, so that a repeat is the same call. What is wrong is an error text, and no end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from .calls import tagged
from .context import TurnContext
from .errors import CallFailed, TeamError
from .messages import Message, plain

_TEXT = {"type": "string"}
# What each is for, its parameters, and which of them are needed.
VERBS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "call": (
        "Give work to another participant and get its answer. Several calls in one reply run at "
        "the same time. In the background, you get the id of the turn instead.",
        {
            "name": {**_TEXT, "description": "Who is to do it"},
            "message": {**_TEXT, "description": "What is to be done, with all that it takes"},
            "background": {"type": "boolean", "description": "Do not wait for the answer"},
            "history": {"type": "boolean", "description": "Hand your conversation along"},
            "returns": {"type": "object", "description": "A JSON Schema that the answer is to fit"},
        },
        ["name", "message"],
    ),
    "send": (
        'Say something to a turn while it works; "caller" is who called you.',
        {"to": {**_TEXT, "description": 'The id of the turn, or "caller"'}, "message": _TEXT},
        ["to", "message"],
    ),
    "status": (
        "How far a turn is, and what it answered, also when it ended long ago.",
        {"turn": {**_TEXT, "description": "Its id"}},
        ["turn"],
    ),
    "sleep": (
        "Wait for turns in the background, or for a time; you are told what is done.",
        {
            "until": {"type": "array", "items": _TEXT, "description": "The ids of turns"},
            "any": {"type": "boolean", "description": "Until one of them is done, not all"},
            "seconds": {"type": "number"},
            "every": {"type": "number", "description": "Until the next multiple of so many"},
            "timeout": {"type": "number", "description": "Seconds to wait for turns at most"},
        },
        [],
    ),
    "finish": (
        "End your work with this answer.",
        {"message": {**_TEXT, "description": "The whole answer"}},
        ["message"],
    ),
}


class Finished(Exception):  # not an error: the verb finish
    """The participant has said its last."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.text)
        self.message = message


@cache
def schema(verb: str) -> dict[str, Any]:
    _, properties, required = VERBS[verb]
    return {"type": "object", "properties": properties, "required": required}


async def dispatch(
    context: TurnContext,
    verb: str,
    arguments: Mapping[str, Any],
    *,
    key: str,
    history: tuple[Message, ...] = (),
) -> str:
    """Do *verb*, and say in words what came of it. Raises Finished for finish."""
    try:
        _check(verb, arguments)
        return await _do(context, verb, arguments, key, history)
    except (TeamError, ValueError) as error:
        return f"error: {error}"


def _check(verb: str, arguments: Mapping[str, Any]) -> None:
    if verb not in VERBS:
        raise ValueError(f"there is no verb {verb!r}: there are {', '.join(VERBS)}")
    _, properties, required = VERBS[verb]
    if missing := [name for name in required if arguments.get(name) is None]:
        raise ValueError(f"{verb} needs {', '.join(missing)}")
    kinds = {"string": str, "boolean": bool, "number": (int, float), "array": list}
    kinds["object"] = Mapping
    for name, value in arguments.items():
        if name not in properties and name not in ("id", "any"):
            raise ValueError(f"{verb} has no {name!r}: it has {', '.join(properties)}")
        kind = properties.get(name, {}).get("type")
        if kind and value is not None and not isinstance(value, kinds[kind]):  # type: ignore[arg-type]
            raise ValueError(f"{name} of {verb} is to be a {kind}, not {json.dumps(plain(value))}")


async def _do(
    context: TurnContext,
    verb: str,
    arguments: Mapping[str, Any],
    key: str,
    history: tuple[Message, ...],
) -> str:
    match verb:
        case "call":
            name = arguments["name"]
            turn = context.call(
                name,
                arguments["message"],
                key=key,
                history=history,
                returns=arguments.get("returns"),
            )
            if arguments.get("background"):
                return turn.id
            answer = await turn
            text = answer.text if answer.text or answer.value is None else json.dumps(answer.value)
            return tagged(name, text)
        case "send":
            await context.send(arguments["to"], arguments["message"], key=key)
            return "delivered"
        case "status":
            status = await context.status(arguments["turn"])
            known = {"turn": status.turn, "name": status.name, "status": status.status}
            known |= {"text": status.text} if status.text else {}
            known |= {"error": status.error} if status.error else {}
            return json.dumps(known, ensure_ascii=False)
        case "sleep":
            return await _sleep(context, arguments, key)
        case _:
            raise Finished(Message(arguments["message"]))


async def _sleep(context: TurnContext, arguments: Mapping[str, Any], key: str) -> str:
    turns = [context.find(turn) for turn in arguments.get("until") or ()]
    wake = await context.sleep(
        *turns,
        any=bool(arguments.get("any")),
        seconds=arguments.get("seconds"),
        every=arguments.get("every"),
        timeout=arguments.get("timeout"),
        key=key,
    )
    lines = [f"woken: {wake.reason}"]
    for turn in turns:
        if turn.id in wake.running:
            lines.append(f"{turn.id} still runs")
            continue
        try:
            lines.append(tagged(turn.name, str(await turn)))
        except CallFailed as failed:
            lines.append(f"{turn.id} failed: {failed}")
    return "\n".join(lines)
