"""Unix accounts to log in to: one per login shell, and whoever runs the tests.

They are made when first asked for and removed by the last pytest process that uses them, on
this machine, whoever started it: each holds a shared lock while it runs.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.components import unavailable
from tests.support.sweeping import RUN
from tests.support.timeouts import BOUND

SHELLS = ("bash", "dash", "ash", "zsh", "fish")
NOISE = 'echo "Welcome to a talkative host"\necho "it warns, too" >&2\nsleep 0.2\n'
_MARK = "optio-agents tests"  # the GECOS field: what carries it is ours to remove
_BASE = Path("/tmp/optio-agents-tests")  # ordinary accounts cannot enter pytest's own directories
_PROFILES = (
    ".profile",
    ".bash_profile",
    ".bashrc",
    ".zshenv",
    ".zprofile",
    ".zshrc",
    ".config/fish/config.fish",
)


@dataclass(frozen=True, slots=True)
class Account:
    """A login on this machine; ``home`` is its $HOME in an SSH session."""

    user: str
    uid: int
    gid: int
    home: Path
    shell: str

    def make_dir(self) -> Path:
        """A fresh directory of this account's own, 0700, below its home."""
        made = Path(tempfile.mkdtemp(prefix=f"task-{os.environ[RUN]}-", dir=self.home))
        os.chown(made, self.uid, self.gid)
        return made


class Accounts:
    """Hand out accounts: ``accounts("me")``, ``accounts("zsh")``, ``accounts("fish", noisy=True)``.

    "me" is whoever runs the tests (root in CI), with a home of its own made for the run. The
    others need root; without it, or without their shell, the test skips, and fails if CI=true.
    """

    def __init__(self, home: Path) -> None:
        entry = pwd.getpwuid(os.getuid())
        self.me = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, home, entry.pw_shell)
        self._made = dict[str, Account]()
        self._in_use: int | None = None

    def __call__(self, name: str, *, noisy: bool = False) -> Account:
        if name == "me":
            assert not noisy, "start an sshd with a home that make_noisy() has prepared"
            return self.me
        user = f"optio-{'n' if noisy else 't'}-{name}"
        if user not in self._made:
            self._made[user] = self._account(user, name, noisy=noisy)
        return self._made[user]

    def leave(self) -> None:
        """Remove all accounts, if nobody else uses them."""
        if self._in_use is None:
            return
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for entry in pwd.getpwall():
                if entry.pw_gecos == _MARK:
                    _remove(entry)
        finally:
            os.close(self._in_use)

    def _account(self, user: str, shell: str, *, noisy: bool) -> Account:
        if os.getuid():
            unavailable("making accounts needs root")
        path = _shell(shell)
        if self._in_use is None:
            _base()
            self._in_use = os.open(_BASE / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
        with _locked(_BASE / "making"):
            return _make(user, path, noisy=noisy)


@pytest.fixture(scope="session")
def accounts() -> Iterator[Accounts]:
    """The accounts of this machine to log in to: call it with a name of `SHELLS` or "me"."""
    with tempfile.TemporaryDirectory(prefix="optio-home-") as home:
        found = Accounts(Path(home))
        try:
            yield found
        finally:
            found.leave()


def make_noisy(home: Path, *, rc: bool = False) -> None:
    """Make every shell that starts in *home* print text on both streams and dawdle for 0.2 s."""
    # dash and ash read no profile for a command; sshd runs ~/.ssh/rc before any.
    for name in (".ssh/rc",) if rc else _PROFILES:
        profile = home / name
        profile.parent.mkdir(parents=True, exist_ok=True)
        profile.write_text(NOISE)


def _base() -> None:
    _BASE.mkdir(mode=0o755, exist_ok=True)
    found = _BASE.lstat()
    if found.st_uid or found.st_mode & 0o022 or _BASE.is_symlink():
        raise PermissionError(f"{_BASE} is not a directory of root's alone")
    _BASE.chmod(0o755)


def _shell(name: str) -> str:
    found = shutil.which("busybox" if name == "ash" else name)
    if found is None:
        unavailable(f"{name} is not installed")
    if name != "ash":
        return found
    _base()
    applet = _BASE / "ash"
    if not applet.is_symlink():
        with _locked(_BASE / "making"):
            applet.unlink(missing_ok=True)
            applet.symlink_to(found)
    return str(applet)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(user: str, shell: str, *, noisy: bool) -> Account:
    home = _BASE / user
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        # With "*" for a password nothing matches, yet sshd does not take it for locked.
        options = ["--password", "*", "--comment", _MARK, "--shell", shell, "--home-dir", str(home)]
        _run("useradd", "--no-create-home", "--user-group", *options, user)
        entry = pwd.getpwnam(user)
    if entry.pw_gecos != _MARK:
        raise PermissionError(f"the account {user} is somebody else's")
    account = Account(user, entry.pw_uid, entry.pw_gid, home, entry.pw_shell)
    if not home.exists():
        _furnish(account, noisy=noisy)
    return account


def _furnish(account: Account, *, noisy: bool) -> None:
    new = Path(tempfile.mkdtemp(dir=_BASE))
    if noisy:
        make_noisy(new, rc=account.shell.endswith(("/dash", "/ash")))
    for path in (new, *new.rglob("*")):
        os.chown(path, account.uid, account.gid)
    new.rename(account.home)


def _remove(entry: pwd.struct_passwd) -> None:
    proc.kill(*(found for found in proc.processes() if _owner(found) == entry.pw_uid))
    shutil.rmtree(_BASE / entry.pw_name, ignore_errors=True)
    _run("userdel", entry.pw_name)


def _owner(found: proc.Process) -> int | None:
    try:
        return Path("/proc", str(found.pid)).stat().st_uid
    except FileNotFoundError:
        return None


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=BOUND)
