"""A log as agents and their tools write it: mostly chatter, a third of it status lines."""

import random

_CHATTER = (
    "", "> vite build", "  ok   test/parse.test.ts (12 tests) 38ms", "added 212 packages in 3s",
    "Collecting hypothesis>=6.100", "error TS2304: Cannot find name 'Foo'.",
    "\tat Object.<anonymous> (src/index.ts:12:7)", "Reading src/main.py and its tests",
    "warning: unused variable: `x`", "[12:04:55] INFO  request took 12 ms: GET /health",
    "I will now look at the failing test and see what it expects of the parser before I change it.",
)  # fmt: skip
_STATUS = (
    "STATUS: 40% parser works, writing its tests", "STATUS: reading the code",
    "STATUS: 7% installed the dependencies", "STATUS: 100% all green",
    "STATUS: the build takes a while, meanwhile looking at the documentation of the import",
)  # fmt: skip
_OTHERS = (
    "DONE", "DONE: report written, all 52 tests pass", "ERROR: no compiler on this machine",
    "ATTENTION: the test database refuses my login", 'BROWSER: "https://example.com/login?step=1"',
    'CLIENT_MESSAGE: chart {"passed": 12, "failed": 0, "names": ["a", "b"]}',
    'CALLER_MESSAGE: budget {"hours": 3.5}',
)  # fmt: skip


def mixed(count: int) -> list[str]:
    """*count* lines: 60 % chatter, 30 % STATUS, 5 % DELIVERABLE, the rest of the other keywords.

    The same ones every time. No two share a string object, as in a log that was read.
    """
    dice = random.Random(2026)
    return [_line(dice.random(), dice, number) for number in range(count)]


def _line(kind: float, dice: random.Random, number: int) -> str:
    if kind < 0.60:
        return f"{dice.choice(_CHATTER)}{number}"
    if kind < 0.90:
        return f"{dice.choice(_STATUS)} {number}"
    if kind < 0.95:
        return f"DELIVERABLE: ./deliverables/part-{number}.md"
    return "".join(list(dice.choice(_OTHERS)))
