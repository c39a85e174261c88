"""Published as `optio_agents.mcp`."""

import sys

from optio_agents.family.values import mcp

sys.modules[__name__] = mcp
