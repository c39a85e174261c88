"""Published as `optio_agents.tmux_input`."""

import sys

from optio_agents.family.machinery import tmux_input

sys.modules[__name__] = tmux_input
