"""What is different from agent to agent."""
