"""What a session costs, and the library itself: start, idle, events, the whole command."""
