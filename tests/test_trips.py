"""Everyday trips through our code stay as short as they are: `python -m tests.support.trips`."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.components import needs
from tests.support.trips import BARS, Place, Trip, walk


@pytest.mark.parametrize("trip", BARS, ids=lambda trip: trip.__name__)
def test_a_trip_leads_through_no_more_functions(trip: Callable[[Place], Awaitable[Trip]]) -> None:
    needs("sshd")
    for _ in range(3):  # what else happens meanwhile can only add to it
        walked = walk(trip)
        if walked.length <= BARS[trip]:
            return
    pytest.fail(f"{walked}, where {BARS[trip]} did:\n" + "\n".join(walked.functions()))
