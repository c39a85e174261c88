"""Published as `optio_agents.agent_info`."""

import sys

from optio_agents.family.values import agent_info

sys.modules[__name__] = agent_info
