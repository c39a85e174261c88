"""The two environments, and what runs in them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.components import cache, unavailable

ROOT = Path(__file__).parents[3]
PUBLISHED = "optio-agents==0.7.2"
ENGINES = {
    "claudecode": "optio-claudecode==0.7.2",
    "codex": "optio-codex==0.4.8",
    "opencode": "optio-opencode==0.6.7",
    "cursor": "optio-cursor==0.4.8",
    "grok": "optio-grok==0.4.10",
    "kimicode": "optio-kimicode==0.3.7",
    "antigravity": "optio-antigravity==0.3.8",
    "agents-all": "optio-agents-all==0.3.0",
}
BESIDE = (
    "optio-core==0.7.2",
    "optio-host==0.4.1",
    "mongomock-motor==0.0.36",
    "pytest>=8.2",
    "pytest-asyncio>=0.25",
    "pytest-timeout>=2.3",
)
# What is no test of an engine: it takes the published driver apart.
LEFT_OUT = (
    "tests.test_session_hooks::test_on_deliverable_receives_hook_ctx_and_can_use_host_primitives",
)
_ONE_TEST = 30  # seconds
_PLUGIN = "optio_family_fixtures"

_IMPORT = """
import importlib, importlib.util, json, pkgutil, sys
told = {}
for package in sys.argv[1:]:
    names, failed = [package], {}
    for place in importlib.util.find_spec(package).submodule_search_locations:
        names += [one.name for one in pkgutil.walk_packages([place], f"{package}.", lambda _: None)]
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed[name] = f"{type(error).__name__}: {error}"
    told[package] = [names, failed]
print(json.dumps(told))
"""


class Unavailable(Exception):
    """The index does not give what is needed."""


@dataclass(frozen=True)
class Imported:
    """What came of importing every module of an engine."""

    names: Sequence[str]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Side:
    """One environment."""

    python: Path

    def import_all(self, engines: Iterable[str]) -> dict[str, Imported]:
        """Each module of each of *engines*, subpackages included."""
        packages = {engine: f"optio_{engine.replace('-', '_')}" for engine in engines}
        ran = self._run(["-c", _IMPORT, *packages.values()], seconds=300)
        if ran.returncode:
            raise Unavailable(ran.stderr[-400:])
        found = json.loads(ran.stdout.splitlines()[-1])
        return {engine: Imported(*found[package]) for engine, package in packages.items()}

    def run_tests(
        self, engine: str, chosen: Iterable[str] = (), *, seconds: float = 1800
    ) -> dict[str, str]:
        """What became of each test of *engine*: passed, failed or skipped, by its name."""
        tests = _tests_of(engine)
        with tempfile.TemporaryDirectory(prefix="of", dir="/tmp") as place:
            report = Path(place, "report.xml")
            options = ["-q", "-p", _PLUGIN, "-o", "asyncio_mode=auto"]
            options += ["-p", "no:cacheprovider", f"--timeout={_ONE_TEST}", f"--junitxml={report}"]
            # what recurses for ever can be told as it is, but not in pytest's own way
            options += ["--continue-on-collection-errors", "--tb=native"]
            targets = list(chosen) or ["tests"]
            ran = self._run(
                ["-m", "pytest", *options, *targets], cwd=tests, home=place, seconds=seconds
            )
            if not report.exists():
                raise Unavailable(f"the tests of {engine} did not run: {ran.stderr[-400:]}")
            cases = ElementTree.parse(report).iter("testcase")
            found = {f"{one.get('classname')}::{one.get('name')}": _outcome(one) for one in cases}
            return {name: how for name, how in found.items() if name not in LEFT_OUT}

    def _run(
        self, args: list[str], *, cwd: Path = ROOT, home: str = "/nonexistent", seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """With an environment built from nothing, and no network where that can be had."""
        env = {"PATH": os.defpath, "HOME": home, "LANG": "C.UTF-8"}
        env |= {"PYTHONPATH": str(_plugin()), "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [*_loopback_alone(), str(self.python), *args]
        return subprocess.run(
            argv, cwd=cwd, env=env, text=True, capture_output=True, timeout=seconds, check=False
        )


def _outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return (
        "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
    )


@once
def _loopback_alone() -> tuple[str, ...]:
    words = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    try:
        works = subprocess.run([*words, "true"], capture_output=True, timeout=20, check=False)
    except OSError:
        return ()
    return words if works.returncode == 0 else ()


@once
def _plugin() -> Path:
    """Where our fixtures are found, under a name of their own, and nothing else of ours."""
    place = cache() / "family" / "plugin"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("fixtures.py"), place / f"{_PLUGIN}.py")
    return place


def _tests_of(engine: str) -> Path:
    """The tests that its source distribution carries, and nothing else of it."""
    place = cache() / "family" / ENGINES[engine]
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
            _pip(
                sys.executable, "download", "--no-deps", "--no-binary", ":all:", "--dest", fresh,
                ENGINES[engine],
            )  # fmt: skip
            (archive,) = Path(fresh).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                for member in tar.getmembers():
                    _, _, path = member.name.partition("/")
                    if path.startswith("tests/") and member.isfile():
                        member.name = path
                        tar.extract(member, Path(fresh, "kept"), filter="data")
            Path(fresh, "kept", "tests", "__init__.py").touch()
            Path(fresh, "kept").rename(place)
    return place


def published() -> Side:
    """The engines on the optio-agents that they were published with."""
    return Side(_environment("published", PUBLISHED))


def ours() -> Side:
    """The engines on this checkout."""
    return Side(_environment("ours", PUBLISHED, replaced_by=ROOT))


def engines_on_us() -> Side:
    """The same, for a test: skipped where nobody has asked for so many packages."""
    asked = os.environ.get("CI") == "true" or os.environ.get("OPTIO_AGENTS_REAL")
    if not asked and not (cache() / "family" / "ours" / "replaced").exists():
        pytest.skip("CI=true, or `python -m tests.family`, installs the engines from the index")
    try:
        return ours()
    except Unavailable as error:
        unavailable(str(error))


def _environment(name: str, *more: str, replaced_by: Path | None = None) -> Path:
    home = cache() / "family" / name
    home.parent.mkdir(parents=True, exist_ok=True)
    python = home / "bin" / "python"
    wanted, place = "\n".join([*ENGINES.values(), *BESIDE, *more]), str(replaced_by)
    installed, replaced = home / "installed", home / "replaced"
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
            # this pulls in what they run on, of which ours then takes the place
            _pip(python, "install", *ENGINES.values(), *BESIDE, *more)
            installed.write_text(wanted)
        if replaced_by and not (replaced.exists() and replaced.read_text() == place):
            _pip(python, "install", "--editable", place)
            _pip(python, "check")  # our version is one that they accept
            replaced.write_text(place)
    return python


def _pip(python: str | Path, *words: str) -> None:
    quiet = ["--quiet"] if words[0] != "check" else []
    command = [str(python), "-m", "pip", *words[:1], *quiet, *words[1:]]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise Unavailable(f"pip {' '.join(words)}: {(ran.stderr or ran.stdout).strip()[-400:]}")
