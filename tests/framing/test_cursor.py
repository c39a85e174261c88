import json
import os

import pytest
from hypothesis import given, strategies as st

from optio_agents.framing.compare import (
    AGAIN,
    APPENDED,
    NOTHING,
    REPLACED,
    TRUSTED_AFTER,
    WINDOW,
    Place,
    decide,
    digest,
    last_bytes,
)
from optio_agents.framing.cursor import Cursor

NUMBERS = st.integers(0, 2**64)
CURSORS = st.builds(
    Cursor,
    device=NUMBERS,
    inode=NUMBERS,
    size=NUMBERS,
    mtime_ns=NUMBERS,
    offset=NUMBERS,
    generation=NUMBERS,
    lines=NUMBERS,
    tail=st.binary(max_size=99).map(digest),
    window=NUMBERS,
)


@given(CURSORS)
def test_a_cursor_survives_json(cursor):
    assert Cursor.from_json(cursor.to_json()) == cursor
    assert "\n" not in cursor.to_json()


@pytest.mark.parametrize("change", [{"offset": -1}, {"offset": "1"}, {"offset": True}, {"tail": 1}])
def test_what_is_no_cursor_is_refused(change):
    data = json.loads(Cursor().to_json())
    for text in (json.dumps(data | change), json.dumps(data | {"more": 1}), "[]", "{}", "no"):
        with pytest.raises(ValueError, match=r"cursor|Expecting"):
            Cursor.from_json(text)


def place(content, offset):
    window = content[:offset][-WINDOW:]
    return Place(1, 7, offset, digest(window), len(window))


def verdict_on(content, at, *, inode=7, age=0.0):
    window = content[: at.offset][-at.window :] if at.window else b""
    return decide(at, inode, len(content), age=age, intact=digest(window) == at.tail)


@pytest.mark.parametrize(
    ("now", "age", "verdict"),
    [
        (b"one\n", TRUSTED_AFTER, NOTHING),
        (b"one\n", 0.0, AGAIN),
        (b"one\ntwo\n", 0.0, APPENDED),
        (b"one", 0.0, REPLACED),
        (b"", 0.0, REPLACED),
        (b"eno\n", TRUSTED_AFTER, REPLACED),
        (b"eno\ntwo\n", 0.0, REPLACED),
    ],
)
def test_a_look_says_what_happened(now, age, verdict):
    at = place(b"one\n", 4)
    assert verdict_on(now, at, age=age) == verdict


def test_another_identity_is_a_replacement_and_another_device_number_is_none():
    at = place(b"one\n", 4)
    assert verdict_on(b"one\n", at, inode=8) == REPLACED
    assert verdict_on(b"one\n", at._replace(device=99), age=9.0) == NOTHING


def test_a_file_not_seen_before_begins_at_its_front():
    assert decide(Cursor().place, 7, 3, age=0.0, intact=True) == REPLACED


@given(st.binary(max_size=3), st.integers(1, WINDOW), st.data())
def test_an_edit_inside_the_window_is_seen_and_one_before_it_is_not(seed, back, data):
    content = os.urandom(1) + (seed or b"x") * WINDOW * 2
    at = place(content, len(content))
    inside = bytearray(content)
    inside[-back] ^= 1
    assert verdict_on(bytes(inside), at) == REPLACED
    before = bytearray(content)
    before[data.draw(st.integers(0, len(content) - WINDOW - 1))] ^= 1
    assert verdict_on(bytes(before), at) == AGAIN


@given(st.binary(max_size=50), st.lists(st.binary(max_size=3 * WINDOW), max_size=4), st.data())
def test_the_window_is_the_last_bytes_whatever_the_pieces(start, pieces, data):
    window, content = start, start
    for piece in pieces:
        end = data.draw(st.integers(0, len(piece)))
        assert last_bytes(window, piece, end) == (content + piece[:end])[-WINDOW:]
        window, content = last_bytes(window, piece, len(piece)), content + piece
