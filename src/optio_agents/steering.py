"""Published as `optio_agents.steering`."""

import sys

from .family.machinery import steering
from .family.machinery.steering import *

sys.modules[__name__] = steering
