"""The short form of `make faults`, with `take`: a photo that is lost then is nowhere."""

import random
from pathlib import Path

import pytest

from tests.faults.__main__ import compare, scenario
from tests.faults.requests import make_requests
from tests.faults.run import Kills


@pytest.mark.timeout(900)
async def test_kills_change_nothing(tmp_path: Path) -> None:
    drops = scenario(cameras=5, photos=16, seed=7)
    wanted = make_requests(drops, silent=0)
    golden, struck, wrong = await compare(tmp_path, drops, wanted, Kills(3, random.Random(7)), "take")
    assert wrong == []
    assert (struck.fired.kills, struck.fired.while_ready) == (3, 1)
    assert len(golden.outcome.events) > 5
    assert len(wanted) > 3
