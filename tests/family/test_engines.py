"""A sample of what `python -m tests.family` tries whole: the engines of the family on us."""

from __future__ import annotations

import pytest

from tests.support.family import sides

# Quick ones: values, lists of tasks, controls, conversations.
SAMPLE = {
    "claudecode": ("tests/test_todos.py", "tests/test_types.py", "tests/test_prompt.py"),
    "codex": ("tests/test_config.py", "tests/test_conversation_controls.py"),
    "agents-all": ("tests/test_config_uniformity.py", "tests/test_capabilities.py"),
}


@pytest.fixture(scope="module")
def ours() -> sides.Side:
    return sides.engines_on_us()


def test_every_module_of_every_engine_imports(ours: sides.Side) -> None:
    found = ours.import_all(sides.ENGINES)
    assert sum(len(imported.names) for imported in found.values()) == 129
    assert {engine: dict(imported.failed) for engine, imported in found.items()} == {
        engine: {} for engine in sides.ENGINES
    }


@pytest.mark.parametrize("engine", SAMPLE)
def test_their_own_tests_pass(ours: sides.Side, engine: str) -> None:
    found = ours.run_tests(engine, SAMPLE[engine], seconds=300)
    assert len(found) > 20
    assert {name: how for name, how in found.items() if how == "failed"} == {}
