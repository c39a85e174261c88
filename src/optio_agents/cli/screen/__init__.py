"""Sessions on this terminal, or in the lines of a program.

Read `records` (one event as a record, and as words; plain lines), `live` (the other view), `keys`,
`questions` and `asking` (a person decides), `supervised` (sessions to their ends: Ctrl-C and exit
codes), `notify` (events to a program of the user's).
"""
