"""An agent that keeps a ledger of its own: what write(2) took of it, and what it heard.

    python agent.py PLAN

The ledger lies on another disk than the log; each entry is one write of one line of JSON.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import select
import signal
import sys
import time

SAYINGS = ("STATUS: %d%% näher", "%d: a thought of its own", "**STATUS**: %d, which is none")
LONGEST = 150_000  # bytes of a file it hands over: several pieces of a transfer


class Agent:
    def __init__(self, plan: dict) -> None:
        self.plan = plan
        self.chance = random.Random(plan["seed"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.ledger = os.open(plan["ledger"], flags, 0o600)
        self.owed = set(plan["words"])  # how what it waits for begins
        self.again = list[str]()  # files to announce once more
        self.rest, self.count, self.files, self.open = b"", 0, 0, True
        self.note("pid", os.getpid())

    def run(self) -> int:
        ending, end = self.plan["ending"], time.monotonic() + self.plan["life"]
        curfew = self.plan["curfew"]  # a file, for those that work until it is there
        while time.monotonic() < end or (curfew and not os.access(curfew, os.F_OK)):
            self.work()
            self.hear(self.chance.expovariate(1 / self.plan["pace"]))
        match ending:
            case "killed in mid-line":
                self.say("STATUS: 99% never finished", broken_off=True)
            case "killed behind an announcement":
                self.hand_over()
                self.die()
            case "killed as it waits":
                self.hand_over()
                self.hear(self.chance.random())
                self.die()
        while (self.owed or self.again) and self.open:
            self.announce_again()
            self.hear(60)
        if ending in {"DONE", "ERROR"}:
            self.say(f"{ending}: as planned")
        return 0 if ending == "DONE" else 3

    def work(self) -> None:
        self.count += 1
        self.announce_again()
        dice = self.chance.random()
        if dice < 0.15:
            self.hand_over()
        elif dice < 0.25:
            self.say(f'CALLER_MESSAGE: ask {{"n": {self.count}}}')
            self.owed.add(f"System: answer {self.count}")
        else:
            filling = "." * (self.chance.randrange(2000) if dice > 0.9 else 3)
            self.say(self.chance.choice(SAYINGS) % min(self.count, 100) + filling)

    def hand_over(self) -> None:
        self.files += 1
        name = f"{self.files}.bin"
        data = self.chance.randbytes(self.chance.choice((10, 5_000, LONGEST)))
        path = f"{os.environ['OPTIO_DELIVERABLES']}/{name}"
        self.write(path, data, os.O_TRUNC)
        self.note("file", [name, hashlib.sha256(data).hexdigest()])
        self.announce(name)

    def announce(self, name: str) -> None:
        self.say(f"DELIVERABLE: deliverables/{name}")
        self.owed.add(f"System: deliverable {name}")

    def announce_again(self) -> None:
        while self.again:
            self.announce(self.again.pop())

    def say(self, line: str, *, broken_off: bool = False) -> None:
        """Append a line, now and then in two pieces; "took" says that all of it was taken."""
        data = f"{line}\n".encode()
        cut = self.chance.randrange(1, len(data)) if self.chance.random() < 0.2 else len(data)
        self.note("try", line)
        if broken_off:
            self.write(os.environ["OPTIO_LOG"], data[: len(data) // 2], os.O_APPEND)
            self.die()
        self.write(os.environ["OPTIO_LOG"], data[:cut], os.O_APPEND)
        if data[cut:]:
            time.sleep(self.chance.random() / 5)
            self.write(os.environ["OPTIO_LOG"], data[cut:], os.O_APPEND)
        self.note("took", line)

    def write(self, path: str, data: bytes, how: int) -> None:
        """As much as the disk takes, and the rest when there is room again."""
        file, told = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600), False
        while data:
            try:
                data = data[os.write(file, data) :]
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if not told:
                    self.note("full", path)
                told = True
                time.sleep(0.2)
        os.close(file)

    def hear(self, seconds: float) -> None:
        """Listen for so long, or until something was heard."""
        if not self.open or not select.select([0], [], [], seconds)[0]:
            if not self.open:
                time.sleep(min(seconds, 1))
            return
        data = os.read(0, 65_536)
        self.open = bool(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.note("heard", line.decode())
            whose, _, reply = line.decode().removeprefix("System: ").partition(": ")
            self.owed -= {line.decode(), f"System: {whose}"}
            if "trouble on our side" in reply:
                self.again.append(whose.removeprefix("deliverable "))

    def die(self) -> None:
        self.note("dies", self.plan["ending"])
        os.kill(os.getpid(), signal.SIGKILL)

    def note(self, kind: str, what: object) -> None:
        os.write(self.ledger, json.dumps([kind, what]).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(Agent(json.loads(sys.argv[1])).run())
