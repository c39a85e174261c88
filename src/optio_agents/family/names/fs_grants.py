"""Published as `optio_agents.fs_grants`."""

import sys

from optio_agents.family.machinery import fs_grants

sys.modules[__name__] = fs_grants
