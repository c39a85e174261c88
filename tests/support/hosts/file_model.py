"""What a reader of a file must be told, by a model that holds on to everything."""

from itertools import takewhile

from optio_agents.framing.compare import WINDOW


class Model:
    """Holds on to everything; knows the window, but no digests, offsets or generations."""

    def __init__(self):
        self.inode, self.read, self.lines = None, b"", []
        self.saved = self.inode, self.read, self.lines

    def look(self, inode, content):
        """The lines that are new to whoever looks now."""
        at, window = len(self.read), self.read[-WINDOW:]
        same = inode == self.inode and content[at - len(window) : at] == window
        self.read = self.read + content[at:] if same else content
        self.inode = inode
        lines = self.read.split(b"\n")[:-1]
        known = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(self.lines, lines))))  # noqa: B905
        new = lines[known:]
        if new:
            self.lines = lines
            self.saved = self.inode, self.read[: self.read.rindex(b"\n") + 1], lines
        return new

    def restart(self):
        self.inode, self.read, self.lines = self.saved
