"""Published as `optio_agents.todos`."""

import sys

from .family.machinery import todos
from .family.machinery.todos import *

sys.modules[__name__] = todos
