"""Published as `optio_agents.model_probe`."""

import sys

from .family.machinery import model_probe
from .family.machinery.model_probe import *

sys.modules[__name__] = model_probe
