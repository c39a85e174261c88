"""Published as `optio_agents.mcp`."""

import sys

from .family.values import mcp
from .family.values.mcp import *

sys.modules[__name__] = mcp
