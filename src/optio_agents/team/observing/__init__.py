"""How others see a team at work: `events` as values, `hooks` as functions, `telemetry` as spans."""
