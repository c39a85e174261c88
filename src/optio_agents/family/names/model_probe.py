"""Published as `optio_agents.model_probe`."""

import sys

from optio_agents.family.machinery import model_probe

sys.modules[__name__] = model_probe
