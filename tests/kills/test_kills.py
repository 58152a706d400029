"""A short `make kills`, with LARES_INGEST_ORIGINALS=take, so that no copy of a lost photo exists."""

import random
from pathlib import Path

import pytest

from tests.kills.__main__ import compare, household, scenario
from tests.kills.reassessments import make_requests
from tests.kills.run import Kills
from tests.support.lares import CHANNELS


@pytest.mark.timeout(900)
async def test_kills_change_nothing(tmp_path: Path) -> None:
    home = household()
    drops = scenario(cameras=5, photos=16, seed=7, home=home, folder=tmp_path)
    requests = make_requests(drops, silent=0)
    kills = {channel: Kills(2, random.Random(7)) for channel in CHANNELS}
    found = await compare(tmp_path, home, drops, requests, kills, "take")
    assert found.wrong == []
    for channel in CHANNELS:
        faults = found.killed[channel].faults
        assert (faults.kills, faults.while_ready) == (2, 1)
    assert len(found.reference.outcome.events) > 5
    assert len(requests) > 3
