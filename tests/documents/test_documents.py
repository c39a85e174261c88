"""What is made of the code is made of this code, and shows nothing but itself."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.documents import plots, reference
from tests.documents.__main__ import GUIDE


def test_the_reference_is_that_of_this_code() -> None:
    made = reference.page()
    assert "### supervise" in made
    assert (GUIDE / "reference.md").read_text() == made, (
        "make it anew with `python -m tests.documents reference`"
    )


def test_a_plot_tells_better_from_worse(tmp_path: Path) -> None:
    row = {"benchmark": "b", "title": "t", "ours": [1.0], "peer_name": "p"}
    rows = [
        {**row, "figure": "ms", "peer": [10.0]},
        {**row, "figure": "s", "peer": [0.5]},
        {**row, "figure": "lines/s", "peer": [0.5]},
    ]
    (tmp_path / "report.json").write_text(json.dumps({"rows": rows}))
    plots.draw(tmp_path / "report.json", tmp_path)
    times, loads = ((tmp_path / f"{name}.svg").read_text() for name in ("times", "loads"))
    assert re.findall(r'class="(better|worse)"', times) == ["better", "worse"]
    assert re.findall(r'class="n">(\S+)x<', times) == ["10", "0.5"]
    assert re.findall(r'class="n">(\S+)x<', loads) == ["2"]


def test_the_pictures_load_nothing() -> None:
    pictures = sorted((GUIDE / "pictures").glob("*.svg"))
    assert [path.stem for path in pictures] == ["loads", "overview", "times"]
    for path in pictures:
        text = path.read_text()
        ET.fromstring(text)
        assert "url(http" not in text
        assert "href" not in text
