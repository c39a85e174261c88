"""Published as `optio_agents.uploads`."""

import sys

from optio_agents.family.machinery import uploads

sys.modules[__name__] = uploads
