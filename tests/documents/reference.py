"""The public names, from their signatures and docstrings, as a page of the guide."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import optio_agents

_WIDE = 88
_ADDRESS = re.compile(r"<factory>|<(?:[^<>]|<[^<>]*>)* at 0x[0-9a-f]+>")  # another in each run
_HEAD = """\
# Reference

Every public name, with what its docstring says; `python -m tests.documents reference` makes this
page. `from optio_agents import NAME` gives each; those of teams and testing lie in
`optio_agents.team` and `optio_agents.testing`.
"""
# What people come for, first.
_PARTS = {
    "supervision": "Supervising",
    "session": "In a task hook",
    "context": "What hooks are given",
    "conversation": "Conversations",
    "hosts": "Hosts",
    "store": "The journal",
    "protocol": "The log's language",
    "errors": "What goes wrong",
    "display": "Showing an agent's words",
    "team": "Teams",
    "testing": "Testing",
}


def page() -> str:
    """All of it."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for part, title in _PARTS.items():
        module = import_module(f"{optio_agents.__name__}.{part}")
        yield f"## {title}\n"
        for name in sorted(set(module.__all__), key=str.casefold):
            yield from _entry(name, getattr(module, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        yield _constant(value)
        return
    yield _code(name, value)
    yield _words(value)
    if inspect.isclass(value):
        for method, function in _methods(value):
            yield f"**{name}.{method}**\n"
            yield _code(method, function)
            yield _words(function)


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Those with words of their own, in the order of the source."""
    for name, value in vars(kind).items():
        function = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield name, function


def _code(name: str, value: Any) -> str:
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # an error takes what any exception takes
        return f"```py\n{name}\n```\n"
    given = [one for one in signature.parameters.values() if one.name != "self"]
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=given)))
    text = text.replace("optio_agents.", "")
    text = _ADDRESS.sub("…", text)
    coroutine = "async " if inspect.iscoroutinefunction(value) else ""
    line = f"{coroutine}{name}{text}"
    if len(line) > _WIDE:
        body = "".join(f"    {one},\n" for one in _split(text))
        line = f"{coroutine}{name}(\n{body}){text.rpartition(')')[2]}"
    return f"```py\n{line}\n```\n"


def _split(text: str) -> Iterator[str]:
    """The parameters of a signature, apart at its outermost commas."""
    depth, begin = 0, 1
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if (letter == "," and depth == 1) or (letter == ")" and depth == 0):
            if text[begin:at].strip():
                yield text[begin:at].strip()
            begin = at + 1


def _words(value: Any) -> str:
    text = inspect.cleandoc(value.__doc__ or "")
    if text.startswith(f"{getattr(value, '__name__', '')}("):  # what a dataclass makes up
        return ""
    # An example runs on its own in the docstring, and is shown as code here.
    text = re.sub(r"(?m)^((?:    |>>> |\.\.\. ).*(?:\n(?:    |>>> |\.\.\. |$).*)*)", _fenced, text)
    return f"{text}\n"


def _fenced(found: re.Match[str]) -> str:
    return f"```text\n{found[1].rstrip()}\n```\n"


def _constant(value: Any) -> str:
    shown = _ADDRESS.sub("…", repr(value))
    return f"```py\n{shown if len(shown) < _WIDE else f'{shown[:_WIDE]}…'}\n```\n"
