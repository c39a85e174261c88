"""Published as `optio_agents.config_types`."""

import sys

from optio_agents.family.values import config_types

sys.modules[__name__] = config_types
