"""A time-out fails one test, never the run: bounds that only a hang meets, and what it rings.

By itself pytest-timeout rings at any moment, also while a report is on its way to xdist, which
takes the run down with it. Here each of set-up, call and tear-down has the whole time for itself,
and the alarm rings inside of them alone, where pytest turns it into a failure. It rings more than
once: a callback of the event loop swallows the first, and what it interrupts may hang as well.
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from typing import Any

import pytest
from pytest_timeout import _get_item_settings, timeout_sigalrm

BOUND = 300.0  # seconds that nothing takes, on a slow machine that is busy, too


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _bounded(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _bounded(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    return (yield from _bounded(item))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer() -> bool:
    return True  # ours is set


def _bounded(item: pytest.Item) -> Generator[None, Any, Any]:
    settings = _get_item_settings(item)

    def ring(*_: object) -> None:
        timeout_sigalrm(item, settings)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    if not settings.timeout:
        return (yield)
    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # for a debugger
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, settings.timeout)
    try:
        return (yield)
    finally:
        cancel()
