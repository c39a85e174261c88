"""Following a file without touching one: bytes in, lines and cursors out. Pure.

*Generations.* An agent appends to its log, but it may also write `>` for `>>`, an editor writes a
new file and renames it, a script cuts it and starts over. A reader must lose nothing of that and
repeat nothing. What can go wrong is that the same bytes at the same offset are another file's, and
that a new file begins with what the old one held. So a look at a file compares (`compare.decide`,
a table of four answers): the file is *replaced* when its identity (inode; the device may change
over a reboot) is another, when it is shorter than what was read, or when the last 4 KiB before the
reader's place are not what they were; a size and a time that are too fresh to trust are looked at
again. A replaced file is a new *generation*: reading starts at its front, and offsets count from
there, so that (file, generation, offset) names a line for ever.

Its front is then compared, by digests of 8 bytes a line, with what was delivered of the generation
before: as long as it only repeats, nothing is delivered, since it may still be in the middle of
being written; from the first other line on, everything is. Beyond 100,000 lines there are no
digests, and what may be a repeat comes again, marked `repeated`: at least once, never lost. A
*journal*, which only we append to, has no generations: there a change is an error that says so.

Bytes are framed first and decoded last, so no chunk boundary ever shows. The file is the queue: a
slow reader delays the next look and buffers nothing, which is all the backpressure there is.

Read `lines` (splitting, with a bound), `compare` (what a look means), `cursor` (where a reader
stands; a checkpoint of constant size), `framer` (all of it together), `batches` (what comes out,
and what may be asked), `frames` (chunks on a channel). `compare` and `frames` are sent to hosts as
source.
"""
