"""The README's Python examples run, and print what stands below them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.timeouts import BOUND

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
EXAMPLES = EXAMPLE.findall(README.read_text())


@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_does_what_it_says(code: str, output: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == output


def test_there_is_an_example() -> None:
    assert EXAMPLES


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
