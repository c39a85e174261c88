"""Published as `optio_agents.session_controls`."""

import sys

from optio_agents.family.values import session_controls

sys.modules[__name__] = session_controls
