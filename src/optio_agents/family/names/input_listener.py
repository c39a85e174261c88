"""Published as `optio_agents.input_listener`."""

import sys

from optio_agents.family.machinery import input_listener

sys.modules[__name__] = input_listener
