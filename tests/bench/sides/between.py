"""Stands between a supervisor and claude; arguments: a log, and the command of claude.

Writes into the log how many ms the answer to each use of a tool of ours took: from the line that
asks, before it is handed on, until the line that answers has come.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

log, command = Path(sys.argv[1]), sys.argv[2:]
claude = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
asked = dict[str, float]()


def say() -> None:
    assert claude.stdin is not None
    for line in sys.stdin.buffer:
        came = time.perf_counter()
        if b'"control_response"' in line:
            answered = json.loads(line)["response"]["request_id"]
            if (began := asked.pop(answered, None)) is not None:
                with log.open("a") as lines:
                    lines.write(f"{1000 * (came - began)}\n")
        claude.stdin.write(line)
        claude.stdin.flush()
    claude.stdin.close()


threading.Thread(target=say, daemon=True).start()
assert claude.stdout is not None
for line in claude.stdout:
    if b'"tools/call"' in line:
        asked[json.loads(line)["request_id"]] = time.perf_counter()
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
sys.exit(claude.wait())
