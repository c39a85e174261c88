"""What a terminal sends us: single keys, while something else is drawn on it, and signals."""

from __future__ import annotations

import asyncio
import getpass
import os
import platform
import signal
import sys
import termios
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def can_be_read() -> bool:
    """Whether a person sits at standard input, and types for us."""
    try:
        descriptor = sys.stdin.fileno()
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except (OSError, ValueError, AttributeError):  # closed, or no file at all
        return False


def can_be_drawn_on() -> bool:
    """Whether a person watches standard output, and sees more there than lines."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def discard_typed() -> None:
    """Forget what was typed before now."""
    if can_be_read():
        with suppress(termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def operator_name() -> str:
    """Who sits here, as others read it: `me@box`, and at which terminal."""
    who = f"{getpass.getuser()}@{platform.node()}"
    with suppress(OSError, ValueError, AttributeError):
        who += f" ({os.ttyname(sys.stdin.fileno()).removeprefix('/dev/')})"
    return who


@contextmanager
def ended_by_signals(leave: Callable[[], None]) -> Iterator[None]:
    """Call *leave* while the block lasts when this process is asked to end."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, leave)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@contextmanager
def keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Call *pressed* with what is typed while the block lasts; nothing is echoed.

    It gets what came at once: one key from a person, more from a paste or an arrow key; and
    nothing when we were stopped and go on. Ctrl-C stays a signal. Does nothing where nobody types
    for us.
    """
    if not can_be_read():
        yield
        return
    descriptor = sys.stdin.fileno()
    loop, before = asyncio.get_running_loop(), termios.tcgetattr(descriptor)

    def read() -> None:
        try:
            data = os.read(descriptor, 64)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            loop.remove_reader(descriptor)
        else:
            pressed(data.decode("utf-8", "replace"))

    def resume() -> None:  # back from Ctrl-Z: the shell had its own way
        listen()
        pressed("")

    def listen() -> None:
        with suppress(termios.error):
            tty.setcbreak(descriptor, termios.TCSANOW)
            mode = termios.tcgetattr(descriptor)
            mode[3] |= termios.NOFLSH  # or Ctrl-C drops what is on its way to the screen
            termios.tcsetattr(descriptor, termios.TCSANOW, mode)

    listen()
    discard_typed()  # it was meant for the shell
    loop.add_reader(descriptor, read)
    loop.add_signal_handler(signal.SIGCONT, resume)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGCONT)
        loop.remove_reader(descriptor)
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
