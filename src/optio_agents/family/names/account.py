"""Published as `optio_agents.account`."""

import sys

from optio_agents.family.values import account

sys.modules[__name__] = account
