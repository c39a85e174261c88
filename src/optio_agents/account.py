"""Published as `optio_agents.account`."""

import sys

from .family.values import account
from .family.values.account import *

sys.modules[__name__] = account
