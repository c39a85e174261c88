"""Published as `optio_agents.claustrum`."""

import sys

from optio_agents.family.machinery import claustrum

sys.modules[__name__] = claustrum
