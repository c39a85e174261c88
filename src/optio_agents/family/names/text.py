"""Published as `optio_agents.text`."""

import sys

from optio_agents.family.values import text

sys.modules[__name__] = text
