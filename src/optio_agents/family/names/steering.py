"""Published as `optio_agents.steering`."""

import sys

from optio_agents.family.machinery import steering

sys.modules[__name__] = steering
