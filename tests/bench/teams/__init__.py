"""What a team costs: its turns, its models, its agents, and what others take for the same."""
