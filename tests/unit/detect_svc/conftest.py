"""What tests of detect_svc share."""

import resource
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def processor_time_of_the_tests() -> Iterator[None]:
    """The decoder of clips limits the processor time of its process, which is a child of its own but in these
    tests. Without this, the limit would end a process of pytest during another test."""
    before = resource.getrlimit(resource.RLIMIT_CPU)
    yield
    resource.setrlimit(resource.RLIMIT_CPU, before)
