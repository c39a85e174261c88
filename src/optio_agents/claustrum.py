"""Published as `optio_agents.claustrum`."""

import sys

from .family.machinery import claustrum
from .family.machinery.claustrum import *

sys.modules[__name__] = claustrum
