"""Real parts and faults to test agents, hooks and hosts with."""
