"""Published as `optio_agents.seeds`."""

import sys

from optio_agents.family.machinery import seeds

sys.modules[__name__] = seeds
