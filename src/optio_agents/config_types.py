"""Published as `optio_agents.config_types`."""

import sys

from .family.values import config_types
from .family.values.config_types import *

sys.modules[__name__] = config_types
