"""Published as `optio_agents.text`."""

import sys

from .family.values import text
from .family.values.text import *

sys.modules[__name__] = text
