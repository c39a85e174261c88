"""The framer and its cursors against a model that compares whole contents."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, strategies as st

from optio_agents.errors import JournalChanged
from optio_agents.framing.batches import FollowOptions
from optio_agents.framing.compare import (
    REPLACED,
    WINDOW,
    FileChunk,
    Place,
    decide,
    digest,
    last_bytes,
)
from optio_agents.framing.framer import Framer
from tests.support.hosts.file_model import Model


@dataclass
class File:
    inode: int = 1
    content: bytes = b""

    def replace(self, content):
        self.inode, self.content = self.inode + 1, content


@dataclass
class Reader:
    """Looks at a file as a scan does, and records as a store does."""

    file: File
    options: FollowOptions = field(default_factory=FollowOptions)
    compared: int = 1000
    size: int = 1 << 18
    cursor: object = None
    digests: bytes = b""
    generation: int = 0
    told: list = field(default_factory=list)
    ids: set = field(default_factory=set)

    def __post_init__(self):
        self.restart()

    def restart(self):
        options = replace(self.options, delivered=self.digests)
        self.framer = Framer(self.cursor, options, compared=self.compared)
        self.introduced = False

    def look(self):
        place, file = self.framer.place, self.file
        window = file.content[place.offset - place.window : place.offset]
        intact = digest(window) == place.tail
        verdict = decide(place, file.inode, len(file.content), age=9.0, intact=intact)
        fresh = verdict == REPLACED
        offset = 0 if fresh else place.offset
        data = file.content[offset : offset + self.size]
        at_end = offset + len(data) == len(file.content)
        introduction = b"" if fresh or self.introduced else window
        self.introduced = True
        stamp = 1, file.inode, len(file.content), 5
        chunk = FileChunk(*stamp, offset, data, introduction, fresh, at_end)
        return self.framer.feed(chunk), at_end

    def read(self):
        """Read to the end; what was delivered, as lines."""
        got, at_end = [], False
        while not at_end:
            batches, at_end = self.look()
            for batch in batches:
                got += self.record(batch)
        return got

    def record(self, batch):
        assert batch.lines
        assert len(batch.lines) == len(batch.ends)
        assert batch.cursor.offset == batch.ends[-1]
        if batch.cursor.generation != self.generation:
            self.generation, self.digests = batch.cursor.generation, b""
        self.digests += batch.digests
        self.cursor = batch.cursor
        ids = {(self.generation, end) for end in batch.ends}
        assert not ids & self.ids, "an id was given twice"
        self.ids |= ids
        self.told.append(batch)
        return batch.lines


PIECES = st.lists(
    st.sampled_from([b"a\n", b"b\n", b"\n", b"part", b"\r\n", b"L" * 1500 + b"\n", b"M" * 5000]),
    max_size=6,
).map(b"".join)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["append", "overwrite", "rename"]), PIECES),
    st.tuples(st.sampled_from(["truncate", "edit"]), st.floats(0, 1, exclude_max=True)),
    st.tuples(
        st.sampled_from(["look", "look", "again", "rename same", "restart", "reconnect"]), st.none()
    ),
)


def change(file, step, what):
    content, at = file.content, int((what if isinstance(what, float) else 0) * len(file.content))
    match step:
        case "append":
            file.content += what
        case "overwrite":
            file.content = what
        case "rename":
            file.replace(what)
        case "again":  # rewritten from its front, and longer
            file.content = content + content
        case "rename same":
            file.replace(content)
        case "truncate":
            file.content = content[:at]
        case "edit":
            file.content = content[:at] + b"e" + content[at + 1 :]


@given(st.lists(STEPS, max_size=30), st.sampled_from([700, 4000, 1 << 18]))
def test_every_history_of_a_file_is_told_as_the_model_tells_it(steps, size):
    file, model = File(), Model()
    reader = Reader(file, size=size)
    for step, what in [*steps, ("look", None)]:
        change(file, step, what)
        if step == "look":
            assert reader.read() == model.look(file.inode, file.content)
            assert not any(batch.repeated for batch in reader.told)
        elif step == "restart":
            reader.restart()
            model.restart()
        elif step == "reconnect":
            reader.introduced = False


@given(st.lists(PIECES, max_size=8), st.integers(1, 9))
def test_appended_lines_come_once_and_in_order_across_restarts(pieces, size):
    reader, got = Reader(File(), size=size * 1000), []
    for piece in pieces:
        reader.file.content += piece
        got += reader.read()
        reader.restart()
    assert got == reader.file.content.split(b"\n")[:-1]
    assert {batch.cursor.generation for batch in reader.told} <= {0}
    if got:
        *_, last = reader.told
        content = reader.file.content
        assert [content[: end - 1].rpartition(b"\n")[2] for end in last.ends] == last.lines
        window = content[: last.cursor.offset][-WINDOW:]
        assert (last.cursor.tail, last.cursor.window) == (digest(window), len(window))
        assert last.cursor.lines == len(got)


def test_a_new_connection_in_the_middle_of_a_line_goes_on_with_it():
    reader = Reader(File(content=b"a\nbe"))
    assert reader.read() == [b"a"]
    reader.introduced = False
    reader.file.content += b"tter\n"
    assert reader.read() == [b"better"]


def test_looking_in_the_middle_of_a_rewrite_changes_nothing():
    for seen in ([], [b""], [b"", b"a\n"], [b"a\nb", b"a\nb\nc\n"]):
        reader = Reader(File(content=b"a\nb\nc\n"))
        reader.read()
        for content in seen:
            reader.file.content = content
            assert reader.read() == []
        reader.file.content = b"a\nb\nc\nd\n"
        reader.file.inode += 1
        assert reader.read() == [b"d"]


def test_once_generations_part_nothing_is_compared_any_more():
    reader = Reader(File(content=b"a\nb\nc\nd\n"))
    reader.read()
    reader.file.replace(b"a\nx\n")
    assert reader.read() == [b"x"]
    assert len(reader.digests) == 2 * 8
    reader.file.content += b"c\nd\n"
    assert reader.read() == [b"c", b"d"]
    reader.file.replace(b"y\nx\nc\nd\n")
    assert reader.read() == [b"y", b"x", b"c", b"d"]
    assert not any(batch.repeated for batch in reader.told)


def test_beyond_what_digests_compare_lines_come_again_and_say_so():
    lines = [b"%d" % n for n in range(10)]
    reader = Reader(File(content=b"\n".join(lines) + b"\n"), compared=4)
    assert reader.read() == lines
    reader.file.replace(reader.file.content + b"new\n")
    assert reader.read() == [*lines[4:], b"new"]
    repeated, new = reader.told[-2:]
    assert (repeated.lines, repeated.repeated) == (lines[4:], True)
    assert (new.lines, new.repeated) == ([b"new"], False)
    assert (repeated.cursor.lines, new.cursor.lines) == (10, 11)
    assert len(reader.digests) == 4 * 8


def test_lines_of_a_cursor_without_digests_may_be_repeats():
    reader = Reader(File(content=b"a\nb\n"))
    reader.read()
    reader.digests = b""
    reader.restart()
    reader.file.content += b"c\n"
    assert reader.read() == [b"c"]
    assert reader.digests == b""  # they would stand beside the wrong lines
    reader.file.replace(reader.file.content + b"d\n")
    assert reader.read() == [b"a", b"b", b"c", b"d"]
    assert [batch.repeated for batch in reader.told[-2:]] == [True, False]


@pytest.mark.parametrize("newline", [b"\n", b" more\n"])
def test_a_line_that_was_delivered_without_its_newline_is_not_delivered_again(newline):
    for restart in (False, True):
        reader = Reader(File(content=b"a\nDONE"))
        assert reader.read() == [b"a"]
        assert reader.framer.rest == b"DONE"
        [batch] = reader.framer.close()
        assert batch.unterminated
        assert reader.record(batch) == [b"DONE"]
        assert reader.framer.close() == []
        if restart:
            reader.restart()
        reader.file.content += newline + b"b\n"
        assert reader.read() == [line for line in (newline.strip(b"\n"), b"b") if line]


def test_a_rest_that_was_delivered_before_is_passed_over():
    reader = Reader(File(content=b"a\nb\n"))
    reader.read()
    reader.file.replace(b"a\nb")
    assert reader.read() == []
    assert reader.framer.close() == []
    reader.file.content += b"\nc\n"
    assert reader.read() == [b"c"]


def test_long_lines_are_cut_and_compared_with_their_size():
    options = FollowOptions(limit=4)
    reader = Reader(File(content=b"12345678\nab\n123456"), options, size=3)
    assert reader.read() == [b"1234", b"ab"]
    assert [batch.cut for batch in reader.told] == [{0: 8}, {}]
    assert (reader.framer.rest, reader.framer.rest_size) == (b"1234", 6)
    reader.size = 100
    reader.file.replace(b"12345678\nab\n123456\n")
    assert reader.read() == [b"1234"]
    assert reader.told[-1].cut == {0: 6}
    reader.file.replace(b"1234567\nab\n123456\n")
    assert reader.read() == [b"1234", b"ab", b"1234"]
    assert reader.told[-1].cut == {0: 7, 2: 6}
    assert reader.told[-1].ends == [8, 11, 18]


def test_a_journal_only_grows():
    def journal():
        reader = Reader(File(content=b"a\n"), FollowOptions(journal=True))
        reader.read()
        assert reader.digests == b""
        return reader

    reader = journal()
    reader.file.content += b"b\n"
    assert reader.read() == [b"b"]
    for content in (b"", b"A\n", b"a"):
        reader = journal()
        reader.file.content = content
        with pytest.raises(JournalChanged, match="2 bytes"):
            reader.read()
    reader = journal()
    with pytest.raises(JournalChanged, match="removed"):
        reader.framer.feed(FileChunk(missing=True))


def test_a_missing_file_is_no_news():
    framer = Framer(None, FollowOptions(journal=True))
    assert framer.feed(FileChunk(missing=True)) == []
    assert framer.place == Place()


def test_a_chunk_that_does_not_fit_is_refused():
    reader = Reader(File(content=b"abc\n"))
    reader.read()
    with pytest.raises(ValueError, match="where 4 is next"):
        reader.framer.feed(FileChunk(offset=3, data=b"\n"))


def test_a_resumed_reader_is_told_the_window_and_keeps_it():
    reader = Reader(File(content=b"a" * 5000 + b"\n"))
    reader.read()
    reader.restart()
    reader.read()
    assert reader.framer.place == reader.cursor.place
    assert reader.framer.place.tail == digest(last_bytes(b"", reader.file.content, 5001))
