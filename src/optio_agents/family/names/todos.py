"""Published as `optio_agents.todos`."""

import sys

from optio_agents.family.machinery import todos

sys.modules[__name__] = todos
