"""The Python examples of README and guide run, and print what stands below them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.timeouts import BOUND

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "src/optio_agents/guide").glob("*.md"))]
EXAMPLE = re.compile(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
# of Python 3.12.0 to 3.12.3, which took ?1 for a name, and said so
_NO_NAME = "ignore:Binding:DeprecationWarning"
EXAMPLES = [example for page in PAGES for example in EXAMPLE.findall(page.read_text())]


@pytest.mark.parametrize(("code", "output"), EXAMPLES, ids=range(1, len(EXAMPLES) + 1))
def test_an_example_does_what_it_says(code: str, output: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-W", _NO_NAME, "-c", code],
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
