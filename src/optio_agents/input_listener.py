"""Published as `optio_agents.input_listener`."""

import sys

from .family.machinery import input_listener
from .family.machinery.input_listener import *

sys.modules[__name__] = input_listener
