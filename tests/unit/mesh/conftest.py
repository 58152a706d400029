from collections.abc import Iterator

import pytest

from tests.support.recorded_spans import RecordedSpans, no_provider, recording_spans


@pytest.fixture(name="no_provider")
def _no_provider() -> Iterator[None]:
    with no_provider():
        yield


@pytest.fixture
def recorded() -> Iterator[RecordedSpans]:
    with recording_spans() as spans:
        yield spans
