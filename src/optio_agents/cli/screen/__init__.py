"""Sessions on this terminal, or in the lines of a program.

Read `records` (one event as a record, and as words), `lines` and `live` (the two views), `keys`,
`questions` and `asking` (a person decides), `supervised` (sessions to their ends: Ctrl-C and exit
codes), `notify` (events to a program of the user's).
"""
