from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from optio_agents.framing.compare import FileChunk
from optio_agents.framing.frames import BadFrame, Frame, FrameReader, Refusal, pack, pack_refusal

NUMBERS, KEYS = st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1)
CHUNKS = st.builds(
    FileChunk,
    *[NUMBERS] * 5,
    data=st.binary(max_size=300),
    window=st.binary(max_size=9),
    fresh=st.booleans(),
    at_end=st.booleans(),
    missing=st.booleans(),
    final=st.booleans(),
    hole=NUMBERS,
)
REFUSALS = st.builds(Refusal, st.sampled_from(["special", "outside"]), st.text(max_size=9))
FRAMES = st.lists(st.builds(Frame, KEYS, CHUNKS | REFUSALS), max_size=5)


HUGE = pack(1, FileChunk())[:-4] + b"\xff" * 4  # a length beyond all bounds


def packed(frame):
    if isinstance(frame.content, Refusal):
        return pack_refusal(frame.key, frame.content)
    return pack(frame.key, frame.content)


@given(FRAMES, st.data())
def test_frames_arrive_as_they_were_sent_under_any_cut(frames, data):
    stream = b"".join(map(packed, frames))
    places = data.draw(st.sets(st.integers(0, len(stream))))
    reader, got = FrameReader(), []
    for start, end in pairwise([0, *sorted(places), len(stream)]):
        got += reader.feed(stream[start:end])
    assert got == frames


@pytest.mark.parametrize("garbage", [b"Traceback (most recent call last):\n" * 3, HUGE, b"\0" * 99])
def test_what_is_no_frame_is_refused_before_it_is_held(garbage):
    reader = FrameReader()
    with pytest.raises(BadFrame):
        reader.feed(pack(1, FileChunk(data=b"fine")) + garbage)


def test_half_a_header_waits_for_the_rest():
    reader, frame = FrameReader(), pack(1, FileChunk(data=b"fine"))
    assert reader.feed(frame + frame[:9]) == [Frame(1, FileChunk(data=b"fine"))]
    assert reader.feed(b"") == []
    assert reader.feed(frame[9:]) == [Frame(1, FileChunk(data=b"fine"))]
