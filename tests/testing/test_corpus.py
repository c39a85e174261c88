"""The published samples say what the parser reads."""

import pytest

from optio_agents.protocol.parser import parse_log_line
from optio_agents.testing.corpus import FEATURES, LOG_CORPUS, Sample


@pytest.mark.parametrize("sample", LOG_CORPUS, ids=lambda sample: sample.why)
def test_each_line_is_what_the_corpus_says(sample: Sample) -> None:
    assert parse_log_line(sample.line.decode(), features=FEATURES) == sample.event


def test_every_kind_of_event_has_a_sample() -> None:
    assert len({type(sample.event) for sample in LOG_CORPUS}) == 9
