"""Published as `optio_agents.custom_controls`."""

import sys

from .family.values import custom_controls
from .family.values.custom_controls import *

sys.modules[__name__] = custom_controls
