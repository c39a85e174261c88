"""Published as `optio_agents.uploads`."""

import sys

from .family.machinery import uploads
from .family.machinery.uploads import *

sys.modules[__name__] = uploads
