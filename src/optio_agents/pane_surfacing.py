"""Published as `optio_agents.pane_surfacing`."""

import sys

from .family.machinery import pane_surfacing
from .family.machinery.pane_surfacing import *

sys.modules[__name__] = pane_surfacing
