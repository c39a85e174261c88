from io import BytesIO
from itertools import pairwise

from hypothesis import given, strategies as st

from optio_agents.framing.lines import LineSplitter

STREAMS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\xff", b"long line"])).map(
    b"".join
)


def cuts(data, stream):
    places = data.draw(st.sets(st.integers(0, len(stream))))
    return [stream[a:b] for a, b in pairwise([0, *sorted(places), len(stream)])]


def fed(splitter, piece, *, ends):
    lines = splitter.feed(piece, ends=ends)
    return [line.removesuffix(b"\n") for line in lines] if ends else lines


@given(STREAMS, st.data())
def test_lines_are_those_of_the_standard_library_under_any_cut(stream, data):
    splitter, lines, ends = LineSplitter(limit=1000), [], data.draw(st.booleans())
    for piece in cuts(data, stream):
        lines += fed(splitter, piece, ends=ends)
        assert not splitter.cut
    rest = splitter.rest
    assert splitter.size == len(rest)
    lines += [splitter.close()] if rest else []
    assert lines == [line.removesuffix(b"\n") for line in BytesIO(stream)]
    assert splitter.rest == b""


@given(STREAMS, st.data(), st.integers(1, 6))
def test_a_line_beyond_the_limit_is_cut_and_says_its_size(stream, data, limit):
    splitter, seen, ends = LineSplitter(limit), [], data.draw(st.booleans())
    for piece in cuts(data, stream):
        lines = fed(splitter, piece, ends=ends)
        seen += [(line, splitter.cut.get(n, len(line))) for n, line in enumerate(lines)]
    if splitter.size:
        line = splitter.close()
        seen.append((line, splitter.cut.get(0, len(line))))
    whole = [line.removesuffix(b"\n") for line in BytesIO(stream)]
    assert seen == [(line[:limit], len(line)) for line in whole]


def test_a_line_without_end_takes_no_more_memory_than_the_limit():
    splitter = LineSplitter(limit=10)
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
    assert splitter.rest == b"x" * 10
    assert splitter.size == 1_000_000
    assert splitter.feed(b"\nnext") == [b"x" * 10]
    assert splitter.cut == {0: 1_000_000}
    assert splitter.rest == b"next"


@given(st.binary(max_size=9), st.integers(0, 9), st.binary(max_size=9))
def test_zeros_that_are_skipped_count_as_if_they_were_fed(before, zeros, behind):
    fed, skipped = LineSplitter(limit=4), LineSplitter(limit=4)
    fed.feed(before)
    skipped.feed(before)
    fed.feed(bytes(zeros))
    skipped.skip(zeros)
    assert (fed.size, fed.rest) == (skipped.size, skipped.rest)
    assert fed.feed(behind) == skipped.feed(behind)
    assert fed.cut == skipped.cut
