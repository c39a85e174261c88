"""The parts of the guide that are made, not written: `python -m tests.documents --help`."""
