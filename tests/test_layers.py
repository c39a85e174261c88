"""Imports point down: the design's picture of the layers, held against the code."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "optio_agents"

# From the top. A room may have several parts; a module belongs to the one with the longest name.
LAYERS = (
    ("cli",),
    ("testing",),
    ("session",),
    ("context downloads", "conversation", "store"),
    ("session.journal session.result",),  # what a session asks of a store, and what it gives
    ("browser_shims hosts",),
    (
        "conversation.permissions conversation.stream_json conversation.turns",
        "following",
        "protocol",
    ),
    ("conversation.contract", "errors", "protocol.events", "_face"),
)
STRANGERS = set(LAYERS[3])  # none of them imports another
PURE = {*LAYERS[6], *LAYERS[7]}
IMPURE = {"anyio", "asyncio", "asyncssh", "random", "socket", "subprocess", "threading", "time"}
# A protocol is bound to a host when it is used, not when it is made.
UPWARD = {
    ("protocol.protocol", "browser_shims"),
    ("protocol.protocol", "hosts"),
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        if path.name != "__init__.py":  # a face re-exports from wherever it likes
            name = ".".join(path.relative_to(SOURCE / PACKAGE).with_suffix("").parts)
            yield name, ast.parse(path.read_text(), str(path))


MODULES = dict(_modules())


def _imports(module: str) -> Iterator[str]:
    """Everything that *module* imports anywhere in its text, under its full name."""
    here = f"{PACKAGE}.{module}".split(".")
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: -node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full.removeprefix(f"{PACKAGE}.") in MODULES else source


def _inside(module: str) -> Iterator[str]:
    for name in _imports(module):
        if name.split(".")[0] == PACKAGE:
            yield name.removeprefix(PACKAGE).removeprefix(".")


def _room(module: str) -> tuple[int, str]:
    rooms = [
        (len(part), depth, room)
        for depth, layer in enumerate(LAYERS)
        for room in layer
        for part in room.split()
        if f"{module}.".startswith((f"{part}.", f"{part}_"))
    ]
    _, depth, room = max(rooms, default=(0, -1, "no layer"))
    return depth, room


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    depth, room = _room(module)
    assert room != "no layer", f"{module} stands in no layer: add it to LAYERS"
    for imported in _inside(module):
        assert imported, f"{module} imports the whole package, which hides from where"
        there, other = _room(imported)
        assert there >= depth or (module, imported) in UPWARD, f"{module} imports {imported}"
        assert room == other or not {room, other} <= STRANGERS, f"{module} imports {imported}"


@pytest.mark.parametrize("module", MODULES)
def test_asyncssh_stays_in_the_ssh_machine(module: str) -> None:
    if not module.startswith("hosts.ssh"):
        assert "asyncssh" not in {name.split(".")[0] for name in _imports(module)}


@pytest.mark.parametrize("module", [name for name in MODULES if _room(name)[1] in PURE])
def test_the_core_does_not_wait_look_at_a_clock_or_talk(module: str) -> None:
    assert not IMPURE & {name.split(".")[0] for name in _imports(module)}
    waits = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.Await)]
    assert not waits or module in {importer for importer, _ in UPWARD}


def test_no_exemption_outlives_its_reason() -> None:
    assert {(module, name) for module, name in UPWARD if name in _inside(module)} == UPWARD
