"""Whatever an agent says, what we show stays where we put it."""

import json
import re
import textwrap
import unicodedata
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, strategies as st

from optio_agents import visible
from optio_agents.display import Secrets, visible_block

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


# Values of named credentials

KEY = 'sk-"a/b+c"\\é-0123456789'
PEM = "-----BEGIN KEY-----\nMIIEvgIBADANBgkq+hkiG9w0\n  BAQEFAASCBKgwggSkA/oIB\n-----END KEY-----\n"
URL = "postgresql://app:p%40ss-w0rd@db.example:5432/orders"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        json.dumps(KEY),
        json.dumps(KEY, ensure_ascii=False),
        json.dumps({"inner": json.dumps({"key": KEY})}),
        json.dumps(KEY).replace("/", "\\/"),
        repr([KEY]),
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY).lower(),
        KEY.encode().hex(),
        *(b64encode(f"{user}:{KEY}\n".encode()).decode() for user in ("", "u", "me", "you")),
        urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    ],
)
def test_a_credential_is_hidden_however_it_is_written(written: str) -> None:
    for text in written, f"some {written} and more":
        shown = Secrets({"A_KEY": KEY}).hide(text)
        assert "[A_KEY]" in shown
        assert not re.search("0123456|MDEyMzQ1|AxMjM0NT|wMTIzND|303132", shown)


@pytest.mark.parametrize("text", [f"begins {KEY[:9]}", f"{KEY[9:]} ends", KEY[3:-3], KEY[-9:]])
def test_what_is_left_of_a_credential_at_a_cut_is_hidden(text: str) -> None:
    shown = Secrets({"A_KEY": KEY}).hide(text)
    assert shown.replace("[A_KEY]", "").strip() in ("begins", "ends", "")


def test_each_line_of_a_credential_is_hidden_and_each_password_in_a_url() -> None:
    secrets = Secrets({"SSH_KEY": PEM, "DATABASE_URL": URL})
    assert secrets.hide(PEM) == "[SSH_KEY]"
    assert secrets.hide(f"> {PEM.splitlines()[1]} <") == "> [SSH_KEY] <"
    assert secrets.hide(f"> {PEM.splitlines()[2].strip()} <") == "> [SSH_KEY] <"
    for wrapped in textwrap.wrap(b64encode(PEM.encode()).decode(), 40):
        assert secrets.hide(wrapped).startswith("[SSH_KEY]")
    assert secrets.hide(f"at {URL} now") == "at [DATABASE_URL] now"
    assert secrets.hide("with p@ss-w0rd, p%40ss-w0rd") == "with [DATABASE_URL], [DATABASE_URL]"


@given(st.text(), st.text(min_size=6))
def test_no_value_of_a_credential_is_left_in_any_text(text: str, value: str) -> None:
    secrets = Secrets({"N": value})
    shown = secrets.hide(f"{text}{value}{text}")
    assert value not in shown or value in "[N][N]"
    assert secrets.hide_in({"a": [value, 1, None]})["a"][1:] == [1, None]
    assert Secrets().hide(text) == text


@given(st.lists(st.text("abxyhunter2-\n", max_size=30) | st.just(f"say {'hunter2-hunter2'} twice")))
def test_many_texts_are_hidden_in_as_each_of_them_is(texts: list[str]) -> None:
    secrets = Secrets({"TOKEN": "hunter2-hunter2", "LINES": "abxyabxy\nyxbayxba"})
    assert secrets.hide_each(texts) == [secrets.hide(text) for text in texts]
