"""The pauses of a job."""

from datetime import timedelta

import pytest

from store_svc.domain.job import retry_after


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (9, 256), (10, 300), (1_000_000, 300)])
def test_pauses_double_up_to_the_longest(attempts: int, seconds: int) -> None:
    assert retry_after(attempts) == timedelta(seconds=seconds)
