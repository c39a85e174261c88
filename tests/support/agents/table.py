"""The guide's table of what each agent did in each case: read it, and put in what was played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from tests.support.agents.behaviours import ALL, EXCEPT
from tests.support.agents.real_agents import AGENTS

GUIDE = Path(__file__).parents[3] / "src/optio_agents/guide/agents.md"
_HEAD = "| case |"
Cells: TypeAlias = dict[tuple[str, str], str]  # by agent and case


def read() -> Cells:
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _lines()]
    return {
        (agent, case.replace(" ", "-")): word
        for case, *words in rows[1:]
        for agent, word in zip(head[1:], words, strict=True)
    }


def write(cells: Cells) -> None:
    """Put these into the table, which has a row for each case and a column for each agent."""
    known, text = {**read(), **cells, **EXCEPT}, GUIDE.read_text()
    rows = [
        [case.replace("-", " "), *(known.get((agent, case), "?") for agent in AGENTS)]
        for case in ALL
    ]
    new = [["case", *AGENTS], ["---"] * (1 + len(AGENTS)), *rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in new)
    GUIDE.write_text(text.replace("\n".join(_lines()), table))


def _lines() -> list[str]:
    return list(_table(GUIDE.read_text().splitlines()))


def _table(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = line.startswith(_HEAD) or (inside and line.startswith("|"))
        if inside:
            yield line
