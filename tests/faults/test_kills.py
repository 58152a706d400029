"""A short `make faults`, with LARES_INGEST_ORIGINALS=take, so that no copy of a lost photo exists."""

import random
from pathlib import Path

import pytest

from tests.faults.__main__ import compare, scenario
from tests.faults.reassessments import make_requests
from tests.faults.run import Kills


@pytest.mark.timeout(900)
async def test_kills_change_nothing(tmp_path: Path) -> None:
    drops = scenario(cameras=5, photos=16, seed=7)
    requests = make_requests(drops, silent=0)
    reference, killed, wrong = await compare(tmp_path, drops, requests, Kills(3, random.Random(7)), "take")
    assert wrong == []
    assert (killed.faults.kills, killed.faults.while_ready) == (3, 1)
    assert len(reference.outcome.events) > 5
    assert len(requests) > 3
