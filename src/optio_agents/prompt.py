"""Published as `optio_agents.prompt`."""

import sys

from .family.machinery import prompt
from .family.machinery.prompt import *

sys.modules[__name__] = prompt
