"""The supervision of one task: driver, deliverables, journal, and how it ended."""
