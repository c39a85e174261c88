"""The command: `python -m tests.bench --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench import measure, report
from tests.support.own_home import move_in, move_out

OUTPUT = Path(__file__).parents[2] / ".bench"


def main() -> int:
    known = measure.names()
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(known)}")
    parser.add_argument("--quick", action="store_true", help="small and unjudged")
    parser.add_argument("--rounds", type=int, help="5, or 1 when quick")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the reports go (.bench)")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    rounds = options.rounds or (1 if options.quick else 5)
    move_in()
    try:
        results = measure.run(
            options.names or measure.names(asked=False),
            quick=options.quick,
            rounds=rounds,
            within=60 if options.quick else 900,
        )
    finally:
        move_out()
    text = report.markdown(results, judged=not options.quick)
    sys.stdout.write(text)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "report.md").write_text(text)
    (options.output / "report.json").write_text(report.as_json(results))
    missed = not options.quick and any(row.missed for row in results.rows)
    return 1 if results.broken or missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
