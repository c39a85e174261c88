"""Whatever an agent says, what we show stays where we put it."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from optio_agents import visible
from optio_agents.display import visible_block

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ümläut, 日本語, ✅", "plain text, ümläut, 日本語, ✅"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("\x9b31m", r"\x9b31m"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("a\u200bb\u2060c\ufeffd\u00ade", r"a\u200bb\u2060c\ufeffd\xade"),
        ("\u3164\uffa0\u115f\u2800\u034f", r"\u3164\uffa0\u115f\u2800\u034f"),
        ("tag\U000e0041 selector\U000e0100", r"tag\U000e0041 selector\U000e0100"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("lone \ud800", r"lone \ud800"),
        ("⚠\ufe0f careful", "⚠\ufe0f careful"),
        ("a\ufe0f ⚠\ufe0f\ufe0f", "a\\ufe0f ⚠\ufe0f\\ufe0f"),
        (r"C:\new", r"C:\new"),
        ("Tiê\u0301ng e\u0323\u0302", "Tiê\u0301ng e\u0323\u0302"),
        ("tower" + "\u0301" * 6, "tower" + "\u0301" * 4 + r"\u0301\u0301"),
    ],
)
def test_what_could_act_or_hide_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(), st.integers(0, 50))
def test_what_is_shown_has_ink_and_fits(text: str, limit: int) -> None:
    shown = visible(text, limit=limit)
    assert len(shown) <= limit
    assert shown.replace("\ufe0f", "").isprintable()
    assert not any(unicodedata.category(char) in UNSEEN for char in shown)


@given(st.text())
def test_a_block_differs_from_a_line_in_line_ends_and_tabs_only(text: str) -> None:
    block = visible_block(text, limit=10_000)
    text = text.replace("\r\n", "\n")
    assert block.replace("\n", r"\n").replace("\t", r"\t") == visible(text, limit=10_000)


@pytest.mark.parametrize("show", [visible, visible_block])
def test_what_does_not_fit_is_announced(show: Callable[..., str]) -> None:
    assert show("x" * 10, limit=10) == "x" * 10
    assert show("x" * 11, limit=10) == "x" * 9 + "…"
    assert show("\x00" * 10, limit=10) == r"\x00\x00\…"
    assert show("\r\n" * 10**7, limit=10).endswith("…")
