"""Published as `optio_agents.agent_info`."""

import sys

from .family.values import agent_info
from .family.values.agent_info import *

sys.modules[__name__] = agent_info
