"""Published as `optio_agents.tmux_input`."""

import sys

from .family.machinery import tmux_input
from .family.machinery.tmux_input import *

sys.modules[__name__] = tmux_input
