"""Published as `optio_agents.prompt`."""

import sys

from optio_agents.family.machinery import prompt

sys.modules[__name__] = prompt
