"""An agent's life around runs: started, owned, spoken to, left alone and found again.

Read `supervise` (the way in), `supervisor` (one owner of one agent), `events` (what whoever
watches gets to see), `live` (acting on a session from any process), `sessions` (what must be known
to find one again, and forgetting it); `kinds/` holds what is different from agent to agent.
"""

from .kinds.spec import Claude, Command
from .supervise import supervise

__all__ = ["Claude", "Command", "supervise"]
