"""Published as `optio_agents.session_controls`."""

import sys

from .family.values import session_controls
from .family.values.session_controls import *

sys.modules[__name__] = session_controls
