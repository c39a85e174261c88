"""Published as `optio_agents.seeds`."""

import sys

from .family.machinery import seeds
from .family.machinery.seeds import *

sys.modules[__name__] = seeds
