"""Following a file, without touching one: lines, cursors, generations. Pure."""
