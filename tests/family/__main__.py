"""The table: engine, modules, tests, here and on the published package."""

from __future__ import annotations

import argparse
import re
import sys

from tests.support.family import sides

GUIDE = sides.ROOT / "src" / "optio_agents" / "guide" / "family.md"
_TABLE = re.compile(r"\| package \| modules.*?\n\n", re.DOTALL)


def main() -> int:
    """Print the table; 1 where something is not as on the published package."""
    parser = argparse.ArgumentParser(prog="python -m tests.family", description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[[], *sides.ENGINES], metavar="ENGINE")
    parser.add_argument("--write", action="store_true", help="put the table into the guide")
    parser.add_argument("--imports", action="store_true", help="run no tests")
    parser.add_argument("--missing", action="store_true", help="name what runs nowhere")
    args = parser.parse_args()
    rows, differ = [_row("package", "modules", "import here", "tests", "pass here")], False
    rows.append(_row("---", "---", "---", "---", "---"))
    chosen = args.engines or list(sides.ENGINES)
    for engine, imported in sides.ours().import_all(chosen).items():
        for name, why in imported.failed.items():
            print(f"{name}: {why}", file=sys.stderr)
        counts = [len(imported.names), len(imported.names) - len(imported.failed)]
        if not args.imports:
            there, here = (side.run_tests(engine) for side in (sides.published(), sides.ours()))
            passing = {name for name, how in there.items() if how == "passed"}
            lost = sorted(name for name in passing if here.get(name) != "passed")
            for name in lost:
                print(f"passes there, {here.get(name, 'gone')} here: {name}", file=sys.stderr)
            if args.missing:
                for name in sorted(there.keys() - passing):
                    print(f"{there[name]} there: {name}", file=sys.stderr)
            counts += [len(passing), len(passing) - len(lost)]
        differ |= counts[::2] != counts[1::2]
        rows.append(_row(sides.ENGINES[engine].replace("==", " "), *counts))
        print(rows[-1], flush=True)
    table = "\n".join(rows) + "\n\n"
    print(f"\n{table}", end="")
    if args.write:
        GUIDE.write_text(_TABLE.sub(lambda _: table, GUIDE.read_text(), count=1))
    return differ


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
