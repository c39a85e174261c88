"""What `python -m tests.bench` has measured, as bars."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path
from statistics import median
from typing import Any

_LEFT, _WIDE, _ROW = 400, 980, 26
_STYLE = (
    "text { font: 13px sans-serif; fill: #57606a } .n { font-weight: bold } "
    ".better { fill: #2da44e } .worse { fill: #bf8700 } line { stroke: #8c959f }"
)


def draw(report: Path, directory: Path) -> None:
    """Write `times.svg` and `loads.svg`: ours over the peer's, of times, and of all else."""
    rows = [
        row
        for row in json.loads(report.read_text())["rows"]
        if row["peer"] and row["benchmark"] != "command"  # its peer is Python alone, doing nothing
    ]
    times = [row for row in rows if "ms" in row["figure"] or row["figure"] == "s"]
    for name, which in (
        ("times", times),
        ("loads", [row for row in rows if row not in times]),
    ):
        bars = [(_label(row), *_gain(row)) for row in which]
        (directory / f"{name}.svg").write_text(_svg(sorted(bars, key=lambda bar: -bar[1])))


def _label(row: dict[str, Any]) -> str:
    return f"{row['title']}, {row['figure']}"


def _gain(row: dict[str, Any]) -> tuple[float, str]:
    """How many times better than the peer, and the peer."""
    ratio = median(row["ours"]) / median(row["peer"])
    return (ratio if row["figure"].endswith("/s") else 1 / ratio), row["peer_name"]


def _svg(bars: Sequence[tuple[str, float, str]]) -> str:
    """A bar for each *(what, gain, peer)*, on a logarithmic scale; at the line both are even."""
    sizes = [log10(gain) for _, gain, _ in bars]
    least, most = min(0.0, *sizes), max(0.0, *sizes)
    scale = (_WIDE - _LEFT - 260) / (most - least or 1)
    even = _LEFT + 12 - least * scale
    lines = list[str]()
    for number, ((what, gain, peer), size) in enumerate(zip(bars, sizes, strict=True)):
        top, length = number * _ROW + 8, size * scale
        words = max(even, even + length) + 6
        lines += [
            f'<text x="{_LEFT}" y="{top + 13}" text-anchor="end">{escape(what)}</text>',
            f'<rect class="{"better" if gain > 1 else "worse"}" x="{even + min(0, length):.1f}" '
            f'y="{top}" width="{max(abs(length), 1):.1f}" height="16"/>',
            f'<text x="{words:.1f}" y="{top + 13}"><tspan class="n">{gain:.3g}x</tspan> '
            f"{escape(peer)}</text>",
        ]
    height = len(bars) * _ROW + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {height}">\n'
        f'<style>{_STYLE}</style>\n<rect width="{_WIDE}" height="{height}" fill="white"/>\n'
        + "\n".join(lines)
        + f'\n<line x1="{even:.1f}" x2="{even:.1f}" y1="0" y2="{height}"/>\n</svg>\n'
    )
