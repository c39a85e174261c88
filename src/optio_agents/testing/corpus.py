"""Lines that agents have written, or may write, and what each of them says.

For whoever reads the log in another language, or wants to know what a line will be taken for.
"""

from __future__ import annotations

from dataclasses import dataclass

from optio_agents.protocol.events import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    StatusEvent,
    UnknownLine,
)
from optio_agents.protocol.features import EVERYTHING

FEATURES = EVERYTHING
"""The corpus is read with everything switched on."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One line, as it stands in the file without its newline, and the event that it is."""

    line: bytes
    event: LogEvent
    why: str


def _narration(line: str, why: str) -> Sample:
    return Sample(line.encode(), UnknownLine(line.rstrip()), why)


LOG_CORPUS: tuple[Sample, ...] = (
    Sample(b"STATUS: 40% parsing", StatusEvent(40, "parsing"), "the usual one"),
    Sample(b"STATUS: parsing", StatusEvent(None, "parsing"), "no number, no percent"),
    Sample(b"STATUS: 50%", StatusEvent(50, ""), "a percent alone"),
    Sample(b"STATUS: 250% eager", StatusEvent(100, "eager"), "clamped"),
    Sample(b"STATUS: 50%off", StatusEvent(None, "50%off"), "no white space behind the sign"),
    Sample(b"STATUS: -5% x", StatusEvent(None, "-5% x"), "digits alone make a percent"),
    Sample("STATUS: ٤٢% x".encode(), StatusEvent(None, "٤٢% x"), "ASCII digits alone do"),
    Sample(b"STATUS: 7% from Windows\r", StatusEvent(7, "from Windows"), "CRLF"),
    Sample(b"\xef\xbb\xbfSTATUS: 1% x", StatusEvent(1, "x"), "a byte-order mark"),
    Sample(b"DONE", DoneEvent(), "bare"),
    Sample(b"DONE: all tests pass", DoneEvent("all tests pass"), "with a summary"),
    Sample(b"ERROR: no compiler", ErrorEvent("no compiler"), "with a reason"),
    Sample(b"ERROR", ErrorEvent(), "bare"),
    Sample(b"ATTENTION: log in for me", AttentionEvent("log in for me"), "a person is needed"),
    Sample(
        b"DELIVERABLE: ./deliverables/a b.txt",
        DeliverableEvent("./deliverables/a b.txt"),
        "blanks belong to the path",
    ),
    Sample(
        b'BROWSER: "https://example.com/?a=1"',
        BrowserEvent("https://example.com/?a=1"),
        "quotes go",
    ),
    Sample(
        b'CLIENT_MESSAGE: chart {"passed": 12}',
        ClientMessageEvent("chart", {"passed": 12}),
        "JSON behind a key",
    ),
    Sample(
        b"CALLER_MESSAGE: budget [1, 2]", CallerMessageEvent("budget", [1, 2]), "any JSON value"
    ),
    _narration("**DONE**", "Markdown"),
    _narration("Done.", "prose"),
    _narration("- STATUS: 10% x", "a list item"),
    _narration(" STATUS: 10% x", "not at the start of its line"),
    _narration("status: 10% x", "lower case"),
    _narration("npm ERROR: code 1", "the output of a tool"),
    _narration("DONE all of it", "no colon"),
    _narration("DELIVERABLE:", "no path"),
    _narration("BROWSER: javascript:alert(1)", "neither http nor https"),
    _narration("BROWSER: file:///etc/passwd", "neither http nor https"),
    _narration('CLIENT_MESSAGE: k {"a": NaN}', "no strict JSON"),
    _narration('CLIENT_MESSAGE: k {"a": "\\ud800"}', "half a surrogate pair"),
    _narration("CLIENT_MESSAGE: k " + "[" * 65 + "]" * 65, "nested too deep"),
    _narration("", "an empty line"),
)
