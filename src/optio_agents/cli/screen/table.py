"""Sessions in columns, for `ls`: as wide as the terminal, whole where a program reads.

A column that says the same of nobody is left out; what is short of room is the words, then the bar.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len, set_cell_size

from optio_agents.display import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_WHOLE = 10_000  # columns where nobody folds lines
_LEAST = 16  # columns of words that are worth having
_BAR = 8
_SPANS = (("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60))


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines that show these records of kind `session`, heads first."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WHOLE
    columns = {
        "session": [row.get("name") or row.get("session") or row["turn"] for row in rows],
        "state": [
            f"{row.get('shown') or row['state']}{', verified' if row.get('verified') else ''}"
            for row in rows
        ],
        "done": [_progress(row, bar=width >= 100) for row in rows],
        "age": [_age(time.time() - row["at"]) if row["at"] else "" for row in rows],
        "cost": [f"${row['usd']:.2f}" if row.get("usd") is not None else "" for row in rows],
        "limit": ["" if row["over"] else fullest(row.get("usage")) for row in rows],
        "agent": [posixpath.basename(row.get("agent") or "") for row in rows],
        "host": [row["host"] for row in rows],
        "last words": [row.get("last") or row.get("text") or "" for row in rows],
    }
    limits = {"session": 24, "state": 40 if width >= 100 else 24, "agent": 10, "host": 20}
    if width == _WHOLE:
        del limits["state"]  # it is what one greps for
    shown = {
        head: [visible(str(cell), limit=limits.get(head, 200)) for cell in cells]
        for head, cells in columns.items()
        if any(cells)
    }
    if width < 100 and set(shown["host"]) == {"local"}:
        del shown["host"]
    widths = {head: max(map(cell_len, (head, *cells))) for head, cells in shown.items()}
    widths |= {head: min(size, limits.get(head, size)) for head, size in widths.items()}
    room = width - sum(widths[head] + 2 for head in widths if head != "last words")
    if "last words" in widths:
        widths["last words"] = min(widths["last words"], max(room, _LEAST if room > 0 else 0))
        if room < _LEAST:
            del shown["last words"]
    lines = [_line({head: head.upper() for head in shown}, widths)]
    for number, row in enumerate(rows):
        cells = {head: cells[number] for head, cells in shown.items()}
        lines.append(_line(cells, widths, colour=_colour(row)))
    return lines


def fullest(usage: Any) -> str:
    """Of the windows of an account's allowance, as they were recorded, the one most used up."""
    now = datetime.now(UTC).isoformat()
    known = [
        one
        for one in usage or ()
        if isinstance(one.get("pct"), int | float) and (one.get("resets_at") or now) >= now
    ]
    if not known:
        return ""
    window = max(known, key=lambda one: one["pct"])
    return f"{window['label']} {window['pct']:.0f}%"


def _line(cells: Mapping[str, str], widths: Mapping[str, int], colour: str | None = None) -> str:
    texts = []
    for head, cell in cells.items():
        text = _fitted(cell, widths[head])
        if head in ("age", "cost"):
            text = text.rstrip().rjust(widths[head])
        if head == "state" and colour and "NO_COLOR" not in os.environ:
            text = click.style(text, fg=colour)  # taken out again where no terminal is
        texts.append(text)
    return "  ".join(texts).rstrip()


def _fitted(text: str, width: int) -> str:
    return (
        f"{set_cell_size(text, width - 1)}…"
        if cell_len(text) > width
        else set_cell_size(text, width)
    )


def _progress(row: Mapping[str, Any], *, bar: bool) -> str:
    percent = 100 if row["outcome"] == "done" else row.get("percent")
    if percent is None:
        return ""
    full = _BAR * percent // 100
    return f"{'━' * full}{'·' * (_BAR - full)} {percent:3}%" if bar else f"{percent:3}%"


def _colour(row: Mapping[str, Any]) -> str:
    if row["over"]:
        return {"done": "green", "cancelled": "bright_black"}.get(row["outcome"], "red")
    if row["waits"]:
        return "yellow"
    return "magenta" if str(row["state"]).startswith(("unattended", "link down")) else "cyan"


def _age(seconds: float) -> str:
    for unit, size in _SPANS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
