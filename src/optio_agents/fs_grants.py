"""Published as `optio_agents.fs_grants`."""

import sys

from .family.machinery import fs_grants
from .family.machinery.fs_grants import *

sys.modules[__name__] = fs_grants
