"""What participants say to each other: values that nobody can change, named by their content.

The id of a message is the SHA-256 of what it says (kind, sender, to, text, value, attachments,
nested messages by their ids, fields of a subclass), so the same words have the same id in every
process. The turn it belongs to is not part of that.

A caller may want an answer of a form: a type as pydantic knows types, or a JSON schema. Who works
on the turn in another process, or after a crash, knows the schema alone, which is what is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from hashlib import sha256
from typing import Any, ClassVar, Literal, NoReturn, TypeAlias

from optio_agents.conversation.contract import Attachment as Attachment
from optio_agents.schemas import AnswerShape

Frozen: TypeAlias = "str | int | float | bool | FrozenDict | tuple[Frozen, ...] | None"
Kind: TypeAlias = Literal["forward", "return"]

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


class FrozenDict(dict[str, Any]):
    """A dict that is read only; `json` and comparisons take it for a dict."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a message cannot be changed: make another one")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = _refuse
    __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)


def freeze(value: Any) -> Any:
    """The same value as JSON, in a form that nobody can change."""
    if isinstance(value, FrozenDict | str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return FrozenDict({str(key): freeze(inner) for key, inner in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return tuple(freeze(inner) for inner in value)
    return freeze(plain(value))  # as it will be read from a store


def plain(value: Any) -> Any:
    """*value* as JSON knows it: models and dataclasses become objects."""
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__dataclass_fields__"):
        return {part.name: plain(getattr(value, part.name)) for part in fields(value)}
    return str(value)


@dataclass(frozen=True)
class Message:
    """One thing said: *forward* to whoever is called, or *return* to the caller.

    Subclass it (as a frozen dataclass) for fields of your own; they are kept with it.
    """

    text: str = ""
    kind: Kind = "forward"
    sender: str = ""
    to: str = ""
    value: Any = None
    attachments: tuple[Attachment, ...] = ()
    parts: tuple[str, ...] = ()  # the ids of the messages it was made of
    turn: str = field(default="", compare=False)

    _classes: ClassVar[dict[str, type[Message]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Message._classes[f"{cls.__module__}:{cls.__qualname__}"] = cls

    def __post_init__(self) -> None:
        for name in () if type(self) is Message else _own_fields(type(self)):
            object.__setattr__(self, name, freeze(getattr(self, name)))
        if self.value is not None:
            object.__setattr__(self, "value", freeze(self.value))
        if self.attachments.__class__ is not tuple:
            object.__setattr__(self, "attachments", tuple(self.attachments))

    def __str__(self) -> str:
        return self.text

    @property
    def id(self) -> str:
        """The SHA-256 of its content, as 64 hexadecimal digits."""
        known: str | None = self.__dict__.get("_id")
        if known is None:
            content = stored(self)
            del content["turn"]
            known = self.__dict__["_id"] = sha256(_canonical(content).encode()).hexdigest()
        return known

    @property
    def hash(self) -> str:
        """The same as its id."""
        return self.id

    def dump(self) -> dict[str, Any]:
        """All of it as JSON; nested messages by their ids."""
        kept = stored(self)
        return kept | {name: list(kept[name]) for name in ("attachments", "parts")}

    @staticmethod
    def load(kept: Mapping[str, Any], *, strict: bool = True) -> Message:
        """The message that was dumped.

        Raises ValueError where its class is not known here; not *strict*, it is a plain one then.
        """
        name = kept.get("class")
        if name is not None and name not in Message._classes:
            if strict:
                raise ValueError(f"a message is a {name}, which is not defined in this process")
            kept = {**kept, "class": None, "own": {}}
            name = None
        return Message._classes.get(name or "", Message)(
            kind=kept["kind"],
            sender=kept["sender"],
            to=kept["to"],
            text=kept["text"],
            value=kept["value"],
            attachments=tuple(map(Attachment.load, kept["attachments"])),
            parts=tuple(kept["parts"]),
            turn=kept["turn"],
            **kept.get("own", {}),
        )

    def exchange(self, upto: int | None = None) -> tuple[Message, ...]:
        """What was said in the turn that gave this answer, to be handed along as history.

        Its first *upto* messages, or all; earlier history comes first.
        """
        said: tuple[Message | None, ...] = self.__dict__.get("_said", ())  # None: this one
        return tuple(one or self for one in said[:upto])

    def but(self, **changes: Any) -> Message:
        """The same with other values in some fields."""
        same = {part.name: getattr(self, part.name) for part in fields(self)}
        return type(self)(**{**same, **changes})


def _own_fields(cls: type[Message]) -> Iterator[str]:
    ours = Message.__dataclass_fields__
    for name, part in cls.__dataclass_fields__.items():
        if name not in ours and (part.init or part.default is not MISSING):
            yield name


def stored(message: Message) -> dict[str, Any]:
    """`dump` for a store, which changes nothing: tuples cost the garbage collector nothing."""
    kept = {
        "kind": message.kind,
        "sender": message.sender,
        "to": message.to,
        "text": message.text,
        "value": None if message.value is None else plain(message.value),
        "attachments": tuple(map(Attachment.dump, message.attachments)),
        "parts": message.parts,
        "turn": message.turn,
    }
    cls = type(message)
    if cls is not Message:
        kept["class"] = f"{cls.__module__}:{cls.__qualname__}"
        kept["own"] = {name: plain(getattr(message, name)) for name in _own_fields(cls)}
    return kept


def texts(messages: Iterable[Message]) -> str:
    """What they say, with a blank line between them."""
    return "\n\n".join(message.text for message in messages if message.text)


def joined(messages: Sequence[Message], *, sender: str, to: str, turn: str) -> Message:
    """What a whole turn said, as one message: a blank line between the texts."""
    if len(messages) == 1:
        only = messages[0]
        if only.sender == sender and only.to == to and only.kind == "return":
            return only
        parts = only.parts if only.turn == turn else (only.id,)
        return only.but(kind="return", sender=sender, to=to, turn=turn, parts=parts)
    values = [message.value for message in messages if message.value is not None]
    return Message(
        texts(messages),
        "return",
        sender,
        to,
        values[-1] if values else None,
        tuple(attachment for message in messages for attachment in message.attachments),
        tuple(message.id for message in messages),
        turn,
    )


def typed(message: Message, returns: Any) -> Message:
    """*message* with its value as *returns*. Raises ValueError where that does not fit."""
    value = plain(_json_of(message.text) if message.value is None else message.value)
    shape = _shape_of(returns)
    made = message.but()
    made.__dict__["_said"] = message.exchange()
    object.__setattr__(made, "value", value if shape is None else shape.check(value))
    return made


def misfit(text: str, wanted: Any) -> str | None:
    """What is wrong with *text* as what is wanted, a type or a schema; None for nothing."""
    shape = None if wanted is None else _shape_of(wanted)
    try:
        if shape is not None:
            shape.check(_json_of(text))
    except ValueError as error:
        return str(error)
    return None


def _shape_of(wanted: Any) -> AnswerShape | None:
    try:
        return AnswerShape(wanted)
    except ValueError:  # a schema, and there is nothing to check it with
        return None


def _json_of(text: str) -> Any:
    words = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return json.loads(words)
    except ValueError:
        return text
