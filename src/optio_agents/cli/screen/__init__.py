"""Sessions on this terminal, or in the lines of a program.

Read `records` (one event as a record, and as words), `lines` and `live` (the two views), `keys`,
`asking` and `questions` (a person decides), `supervised` (what Ctrl-C means, and the exit code),
`onlooker` (a session of somebody else's), `notify` (events to a program of the user's).
"""
