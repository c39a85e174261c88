"""The house: which package may import which, and what keeps each room one that a person finds."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
PACKAGE = "optio_agents"

# From the top; a package imports what stands below it, and no package stands on two floors.
FLOORS = (
    "web",
    "cli",
    "testing",
    "family",
    "team",
    "supervision",
    "session",
    "conversation",
    "agents",
    "context browser_shims",
    "hosts store",
    "protocol framing",
    "errors display concurrency mounts schemas checklist",
)
DEPTH = {name: depth for depth, names in enumerate(FLOORS) for name in names.split()}
# Doors: through them a package offers, by name and not before it is used, what lies above it.
DOORS = {
    ("protocol", "context"),
    ("protocol", "session"),
    ("protocol.session", "session"),
    ("protocol.protocol", "browser_shims"),
    ("protocol.protocol", "hosts"),
}
PURE = ("protocol", "framing", "errors", "display", "checklist", "conversation.contract")
PURE += tuple(
    f"conversation.{name}"
    for name in ("dialect", "json_lines", "claude.dialect", "claude.stream_json")
)
PURE += tuple(
    f"conversation.{name}"
    for name in (
        "json_rpc",
        "acp.dialect",
        "acp.traits",
        "acp.turns",
        "acp.wire",
        "codex.dialect",
        "codex.wire",
    )
)
PURE += tuple(f"conversation.claude.{name}" for name in ("turns", "permissions", "models", "tools"))
IMPURE = {"anyio", "asyncio", "asyncssh", "random", "socket", "subprocess", "threading", "time"}
PRIVATE_LANGUAGE = set(
    """
    told said heard look hire crew guest guests voice voices eye eyes ear ears wish manner mark
    marks pulse landing aside door tactful utils helpers manager
    """.split()  # noqa: SIM905
)


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE / PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text(), str(path))


MODULES = dict(_modules())
del MODULES["__init__"]  # the root looks names up in its parts
PACKAGES = {
    ".".join(path.parent.relative_to(SOURCE / PACKAGE).parts)
    for path in (SOURCE / PACKAGE).rglob("__init__.py")
}


@cache
def _imports(module: str) -> dict[str, bool]:
    """Everything of ours that *module* imports anywhere, and whether only for type checkers."""
    here = [PACKAGE, *module.split(".")]
    found: dict[str, bool] = {}
    typing_only = {
        id(inner)
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(MODULES[module]):
        if not isinstance(node, ast.ImportFrom):
            continue
        above = here[: len(here) - node.level + (module in PACKAGES)] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        if source.split(".")[0] != PACKAGE:
            continue
        for alias in node.names:
            full = f"{source}.{alias.name}".removeprefix(f"{PACKAGE}.")
            name = full if full in MODULES else source.removeprefix(PACKAGE).removeprefix(".")
            found[name] = found.get(name, True) and id(node) in typing_only
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = module.split(".")[0]
    for imported in _imports(module):
        other = imported.split(".")[0]
        assert imported, f"{module} imports the whole package, which hides from where"
        assert other in DEPTH, f"{other} stands on no floor: add it to FLOORS"
        down = DEPTH[other] > DEPTH[room] or other == room
        assert down or (module, other) in DOORS, f"{module} imports {imported}"


def test_a_door_is_nothing_but_a_lazy_lookup() -> None:
    used = {(module, name.split(".")[0]) for module in MODULES for name in _imports(module)}
    assert used >= DOORS, "a door that nobody uses is a wall"
    for module, other in DOORS:
        top = [node for node in MODULES[module].body if isinstance(node, ast.ImportFrom)]
        assert not [node for node in top if str(node.module).startswith(f"{PACKAGE}.{other}")]


def test_the_words_of_one_agent_stand_in_its_folder() -> None:
    """What is the same for every agent names none, but for the door in the package's face."""
    for module in MODULES:
        parts = module.split(".")
        if parts[0] == "conversation" and len(parts) == 2 and module not in PACKAGES:
            assert not [name for name in _imports(module) if "claude" in name], module
            code = ast.unparse(MODULES[module]).lower()
            assert "claude" not in code, module


def _circles() -> list[list[str]]:
    """Strongly connected files, what is imported for type checkers counted (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in _imports(module):
            if other not in MODULES or (module, other.split(".")[0]) in DOORS:
                continue
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in MODULES:
        if module not in index:
            visit(module)
    return found


def test_no_circle_between_files() -> None:
    assert _circles() == []


def test_a_class_name_is_unique() -> None:
    homes = defaultdict(set)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(module)
    assert {name for name, found in homes.items() if len(found) > 1} == set()


def test_no_module_speaks_a_private_language() -> None:
    words = {word for module in MODULES for word in module.replace("_", ".").split(".")}
    assert not words & PRIVATE_LANGUAGE


def test_a_folder_is_small_enough_to_be_seen_at_once() -> None:
    for package in PACKAGES:
        folder = SOURCE / PACKAGE / package.replace(".", "/")
        files = [path for path in folder.iterdir() if path.suffix == ".py"]
        assert len(files) <= 12, f"{package} has {len(files)} files"


def test_what_lies_on_the_search_path_is_imported_by_its_published_name_alone() -> None:
    """By the other one it would be there twice, its classes, too."""
    published = {name for name in MODULES if re.match(r"family\.(values|machinery)\.", name)}
    for module in MODULES:
        for name, typing_only in _imports(module).items():
            beside = module.split(".")[:2] == name.split(".")[:2]
            assert name not in published or beside or typing_only, f"{module} imports {name}"
    taken = {path.stem for path in (SOURCE / PACKAGE).iterdir()}
    assert not taken & {name.split(".")[2] for name in published}, "it would never be found"


def test_nobody_walks_through_the_room_of_the_family() -> None:
    for module in MODULES:
        if not module.startswith("family"):
            assert not [name for name in _imports(module) if name.startswith("family")], module


@pytest.mark.parametrize("module", MODULES)
def test_asyncssh_stays_in_the_ssh_machine(module: str) -> None:
    if not module.startswith("hosts.ssh"):
        assert "asyncssh" not in _strangers(module)


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if any(f"{name}.".startswith(f"{pure}.") for pure in PURE)],
)
def test_the_core_does_not_wait_look_at_a_clock_or_talk(module: str) -> None:
    assert not IMPURE & _strangers(module)
    waits = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.Await)]
    assert not waits or module in {through for through, _ in DOORS}


def _strangers(module: str) -> set[str]:
    """The top-level names of what *module* imports from elsewhere."""
    nodes = list(ast.walk(MODULES[module]))
    plain = [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    froms = [str(n.module) for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.split(".")[0] for name in [*plain, *froms]} - {PACKAGE}
