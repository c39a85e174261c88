"""Published as `optio_agents.custom_controls`."""

import sys

from optio_agents.family.values import custom_controls

sys.modules[__name__] = custom_controls
