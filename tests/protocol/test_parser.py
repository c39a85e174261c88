"""Any string is one event; every event is a line that reads as that event."""

import dataclasses
import json
import pickle
import string
import sys
import time
from typing import get_args

import pytest
from hypothesis import given, settings, strategies as st

from optio_agents import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    ProtocolFeatures,
    StatusEvent,
    UnknownLine,
    format_log_line,
    get_protocol,
    parse_log_line,
)
from optio_agents.protocol import strict_json
from optio_agents.protocol.keywords import KEYWORDS, Keyword

ALL = ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)
FEATURES = st.builds(
    ProtocolFeatures,
    browser=st.sampled_from(["ignore", "suppress", "redirect"]),
    client_messages=st.booleans(),
    caller_messages=st.booleans(),
)
WORDS = [row.name for row in KEYWORDS] + [
    ":", ": ", " ", "\t", "50%", "100%", "007%", "%", '"', "http://x", "https://ü/?#", "key ",
    '{"a": [1, 2.5e3, "é"]}', "[" * 70, "]" * 70, "NaN", "1e999", r'"\ud800"', "\ufeff", "\r",
    "\u2028", "\x85", "\x1c", "\0", "٣", "\udfff",
]  # fmt: skip
LINES = st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join)


@pytest.mark.parametrize(
    ("line", "event"),
    [(line, event) for row in KEYWORDS for line, event in row.examples.items()],
)
def test_every_example_of_the_table_reads_as_promised(line: str, event: LogEvent) -> None:
    assert parse_log_line(line, features=ALL) == event
    assert format_log_line(event, features=ALL) == line


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("STATUS: 50%", StatusEvent(50, "")),
        ("STATUS:50% x", StatusEvent(50, "x")),
        ("STATUS:\t7%\t x y ", StatusEvent(7, "x y")),
        ("STATUS: 050% x", StatusEvent(50, "x")),
        ("STATUS: 000% x", StatusEvent(0, "x")),
        ("STATUS: 101% x", StatusEvent(100, "x")),
        (f"STATUS: {'9' * 10_000}% x", StatusEvent(100, "x")),
        (f"STATUS: {'0' * 10_000}5% x", StatusEvent(5, "x")),
        ("STATUS: 50%x", StatusEvent(None, "50%x")),
        ("STATUS: 50 % x", StatusEvent(None, "50 % x")),
        ("STATUS: -5% x", StatusEvent(None, "-5% x")),
        ("STATUS: % x", StatusEvent(None, "% x")),
        ("STATUS: \u0665% x", StatusEvent(None, "\u0665% x")),
        ("STATUS: ²% x", StatusEvent(None, "²% x")),
        ("STATUS: at 50% of it", StatusEvent(None, "at 50% of it")),
        ("STATUS:", StatusEvent(None, "")),
        ("DELIVERABLE: a b.txt\r\n", DeliverableEvent("a b.txt")),
        ("DONE", DoneEvent()),
        ("DONE:  ", DoneEvent()),
        ("DONE\r\n", DoneEvent()),
        ("DONE: STATUS: x", DoneEvent("STATUS: x")),
        ("ERROR", ErrorEvent()),
        ("ERROR: no", ErrorEvent("no")),
        ("\ufeffDONE", DoneEvent()),
        ("\ufeffSTATUS: x", StatusEvent(None, "x")),
        ('BROWSER: "https://x.y/?a=b c"', BrowserEvent("https://x.y/?a=b%20c")),
        ("BROWSER: https://x.y/?a=b c", None),
        ('BROWSER: "https://x y/"', None),
        ('BROWSER: "https://x.y/z"', BrowserEvent("https://x.y/z")),
        ("BROWSER: HTTP://x.y", BrowserEvent("HTTP://x.y")),
        ('BROWSER: "https://x.y', None),
        ("BROWSER: https://", None),
        ("BROWSER: https:///path", None),
        ("BROWSER: javascript:alert(1)", None),
        ("BROWSER: file:///etc/passwd", None),
        ("BROWSER: http://x\u202ey", None),
        ('BROWSER: "', None),
        ('CLIENT_MESSAGE: k {"a":1}', ClientMessageEvent("k", {"a": 1})),
        ("CALLER_MESSAGE: ü/1\t[null]", CallerMessageEvent("ü/1", [None])),
        ("CLIENT_MESSAGE: k 5", ClientMessageEvent("k", 5)),
        (r'CLIENT_MESSAGE: k "\ud83d\ude00"', ClientMessageEvent("k", "😀")),
        (r'CLIENT_MESSAGE: k "\\ud800"', ClientMessageEvent("k", r"\ud800")),
        ("CLIENT_MESSAGE:", None),
        ("CLIENT_MESSAGE: k", None),
        ('CLIENT_MESSAGE: k{"a":1}', None),
        ("CLIENT_MESSAGE: k {'a':1}", None),
        ("CLIENT_MESSAGE: k {} {}", None),
        ("CLIENT_MESSAGE: k NaN", None),
        ("CLIENT_MESSAGE: k [-Infinity]", None),
        ("CLIENT_MESSAGE: k 1e999", None),
        (f"CLIENT_MESSAGE: k {'9' * 5000}", None),
        (r'CLIENT_MESSAGE: k "\ud800"', None),
        ('CLIENT_MESSAGE: k "\ud800"', None),
        (r'CLIENT_MESSAGE: k {"\udc00": 1}', None),
        ("ATTENTION:", None),
        ("DELIVERABLE:", None),
        ("DELIVERABLE", None),
        ("STATUS", None),
        (" DONE", None),
        ("Done", None),
        ("DONE!", None),
        ("DONE : x", None),
        ("**DONE**", None),
        ("STATUS: a\nDONE", None),
        ("ERRORS: 0", None),
        ("", None),
    ],
)
def test_a_line_reads_as(line: str, event: LogEvent | None) -> None:
    assert parse_log_line(line, features=ALL) == (event or UnknownLine(line.rstrip()))


@pytest.mark.parametrize("depth", [64, 65, 100_000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_json_may_nest_64_deep(start: str, end: str, depth: int) -> None:
    nested = start * (depth - 1) + "[" + "]" + end * (depth - 1)
    assert _is_narration(f"CLIENT_MESSAGE: k {nested}") == (depth > 64)
    assert _is_narration(f"CLIENT_MESSAGE: k [{nested}]") == (depth > 63)
    assert _is_narration(f"CLIENT_MESSAGE: k [[], {{}}, {nested[len(start) : -1]}]") == (depth > 64)


def _is_narration(line: str) -> bool:
    return isinstance(parse_log_line(line, features=ALL), UnknownLine)


def test_what_is_said_in_json_is_what_its_standard_knows() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        strict_json.dumps([float("inf")])


def test_brackets_in_strings_are_no_nesting() -> None:
    text = r'"[{\"' * 100
    line = f"CALLER_MESSAGE: k {json.dumps([text])}"
    assert parse_log_line(line, features=ALL) == CallerMessageEvent("k", [text])
    wide = f"CALLER_MESSAGE: k [{'[],' * 100}[]]"
    assert parse_log_line(wide, features=ALL) == CallerMessageEvent("k", [[]] * 101)


@given(LINES, FEATURES)
def test_any_string_is_one_event(line: str, features: ProtocolFeatures) -> None:
    event = parse_log_line(line, features=features)
    assert isinstance(event, get_args(LogEvent))
    if isinstance(event, UnknownLine):
        assert event.text == line.rstrip()


@given(LINES.filter(lambda line: "\n" not in line), FEATURES)
def test_every_event_formats_back_to_its_line(line: str, features: ProtocolFeatures) -> None:
    event = parse_log_line(line, features=features)
    formatted = format_log_line(event, features=features)
    assert "\n" not in formatted
    assert parse_log_line(formatted, features=features) == event


TEXT = st.text(alphabet=string.ascii_letters + " %5é日:\"'").map(str.strip)
WORD = st.from_regex(r"\A[a-z.]+\Z")
UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | UNICODE
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(UNICODE, inner),
)  # fmt: skip
EVENTS = (
    st.builds(StatusEvent, st.integers(0, 100), TEXT)
    | st.builds(DeliverableEvent, TEXT.filter(bool))
    | st.builds(DoneEvent, st.none() | TEXT.filter(bool))
    | st.builds(ErrorEvent, st.none() | TEXT.filter(bool))
    | st.builds(AttentionEvent, TEXT.filter(bool))
    | st.builds(BrowserEvent, WORD.map("https://{}".format))
    | st.builds(ClientMessageEvent, WORD, JSON)
    | st.builds(CallerMessageEvent, WORD, JSON)
)


@given(EVENTS)
def test_every_sensible_event_has_a_line(event: LogEvent) -> None:
    assert parse_log_line(format_log_line(event, features=ALL), features=ALL) == event


@pytest.mark.parametrize(
    "event",
    [
        StatusEvent(None, "50% x"),
        StatusEvent(101, "x"),
        StatusEvent(None, "two\nlines"),
        DoneEvent(""),
        DeliverableEvent(" "),
        AttentionEvent(""),
        BrowserEvent("ftp://x"),
        ClientMessageEvent("two words", 1),
        ClientMessageEvent("k", float("nan")),
        ClientMessageEvent("k", "\ud800"),
        ClientMessageEvent("k", {1}),
        ClientMessageEvent("k", {1: 2}),
        CallerMessageEvent("k", (1, 2)),
        UnknownLine("DONE"),
        UnknownLine("two\nlines"),
        UnknownLine("space behind "),
    ],
)
def test_what_no_line_can_say_is_refused(event: LogEvent) -> None:
    with pytest.raises(ValueError, match="no line says"):
        format_log_line(event, features=ALL)


def test_data_that_has_no_end_is_refused() -> None:
    deep: list[object] = []
    for _ in range(sys.getrecursionlimit() * 2):
        deep = [deep]
    round_and_round: list[object] = []
    round_and_round.append(round_and_round)
    for data in (deep, round_and_round):
        with pytest.raises(ValueError, match="no line says"):
            format_log_line(ClientMessageEvent("k", data), features=ALL)


@pytest.mark.parametrize("row", [row for row in KEYWORDS if row.feature], ids=lambda row: row.name)
def test_a_keyword_that_is_off_is_narration(row: Keyword) -> None:
    (line,) = row.examples
    assert parse_log_line(line) == UnknownLine(line)
    with pytest.raises(ValueError, match="no line says"):
        format_log_line(parse_log_line(line, features=ALL))


def test_a_protocol_binds_its_features() -> None:
    protocol = get_protocol(browser="redirect", caller_messages=True)
    assert protocol.parse_log_line("BROWSER: http://x") == BrowserEvent("http://x")
    assert protocol.parse_log_line("CALLER_MESSAGE: k 1") == CallerMessageEvent("k", 1)
    assert protocol.parse_log_line("CLIENT_MESSAGE: k 1") == UnknownLine("CLIENT_MESSAGE: k 1")
    assert protocol.browser == "redirect"
    assert "CALLER_MESSAGE" in protocol.documentation
    with pytest.raises(ValueError, match="browser is one of ignore, suppress, redirect"):
        get_protocol(browser="open")  # type: ignore[arg-type]


@given(EVENTS)
@settings(max_examples=20)
def test_events_are_values(event: LogEvent) -> None:
    assert pickle.loads(pickle.dumps(event)) == event == dataclasses.replace(event)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, dataclasses.fields(event)[0].name, "other")


@pytest.mark.parametrize(
    "unit",
    [
        "x",
        " ",
        "STATUS: ",
        "STATUS:" + " " * 50,
        "9",
        "%",
        '"',
        '"\\',
        "[",
        "[]",
        "{",
        "\\",
        "\ufeff",
        ":",
        "\n",
    ],
)
@pytest.mark.parametrize(
    "start",
    [
        "",
        "STATUS: ",
        "BROWSER: http://",
        'CLIENT_MESSAGE: k "',
        "CLIENT_MESSAGE: k [",
        f'CLIENT_MESSAGE: k {"[]" * 70}"',
    ],
)
def test_reading_takes_linear_time(start: str, unit: str) -> None:
    small, large = (_seconds(start + unit * (size // len(unit))) for size in (2**15, 2**19))
    assert large < 16 * 8 * max(small, 1e-4)  # quadratic: 256 times


def _seconds(line: str) -> float:
    before = time.process_time()
    parse_log_line(line, features=ALL)
    return time.process_time() - before
