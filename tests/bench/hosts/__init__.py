"""What a host costs: following, transfers, an outage, a word to an agent."""
