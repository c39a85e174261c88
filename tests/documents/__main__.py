"""The command: `python -m tests.documents --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

from tests.documents import pictures, plots, reference

GUIDE = Path(__file__).parents[2] / "src/optio_agents/guide"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.documents", description=__doc__)
    parser.add_argument("part", choices=["reference", "pictures", "plots"], nargs="+")
    parser.add_argument(
        "--report", type=Path, default=Path(".bench/report.json"), help="what the plots show"
    )
    given = parser.parse_args()
    where = GUIDE / "pictures"
    where.mkdir(exist_ok=True)
    if "reference" in given.part:
        (GUIDE / "reference.md").write_text(reference.page())
    if "pictures" in given.part:
        anyio.run(pictures.draw, where)
    if "plots" in given.part:
        plots.draw(given.report, where)


if __name__ == "__main__":
    main()
