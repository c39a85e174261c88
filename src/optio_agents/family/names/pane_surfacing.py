"""Published as `optio_agents.pane_surfacing`."""

import sys

from optio_agents.family.machinery import pane_surfacing

sys.modules[__name__] = pane_surfacing
