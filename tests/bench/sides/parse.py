"""One side of the parse benchmark; runs under either package. Arguments: how many lines."""

import json
import sys
import time

from corpus import mixed

from optio_agents.protocol.parser import ProtocolFeatures, parse_log_line

lines = mixed(int(sys.argv[1]))
features = ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)
for _ in sys.stdin:
    before = time.perf_counter()
    for line in lines:
        parse_log_line(line, features=features)
    rate = len(lines) / (time.perf_counter() - before)
    sys.stdout.write(json.dumps({"lines/s": rate}) + "\n")
    sys.stdout.flush()
