"""What was measured, as a table to read and as JSON to compare."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.bench.measure import Results, Row

HEAD = ("benchmark", "what", "unit", "ours", "spread", "peer", "its figure", "ratio", "bar", "")


def markdown(results: Results, *, judged: bool) -> str:
    """The table, with the machine above it."""
    cells = [HEAD, *(_cells(row, judged=judged) for row in results.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *body = (_line(row, widths) for row in cells)
    notes = [f"- {name} left out: {why}" for name, why in results.left_out.items()]
    notes += [f"- {name} broke:\n\n```\n{why}```" for name, why in results.broken.items()]
    ruler = _line(["-" * width for width in widths], widths)
    return "\n".join([_machine(), "", head, ruler, *body, "", *notes]).rstrip() + "\n"


def as_json(results: Results) -> str:
    """Every round of every figure."""
    rows = [
        {
            "benchmark": row.benchmark,
            "title": row.title,
            "figure": row.figure.name,
            "ours": row.ours,
            "peer": row.peer,
            "peer_name": row.peer_name,
            "ratio": row.ratio,
            "bars": row.bars,
            "missed": row.missed,
        }
        for row in results.rows
    ]
    return json.dumps(
        {
            "machine": _machine(),
            "rows": rows,
            "left_out": results.left_out,
            "broken": results.broken,
        },
        indent=2,
    )


def _cells(row: Row, *, judged: bool) -> Sequence[str]:
    verdict = "" if not row.bars or not judged else "missed" if row.missed else "holds"
    return (
        row.benchmark,
        row.title,
        row.figure.name,
        _number(median(row.ours)),
        f"{_number(min(row.ours))} to {_number(max(row.ours))}",
        row.peer_name or "-",
        _number(median(row.peer)) if row.peer else "-",
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        ", ".join(row.bars) or "-",
        verdict,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"


def _number(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _machine() -> str:
    when = datetime.now(UTC).date()
    system = f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} CPUs"
    return f"{when}, {system}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
