"""The short form of `make faults`, with `take`: a photo that is lost then is nowhere."""

import random
from pathlib import Path

import pytest

from tests.faults.__main__ import compare, scenario
from tests.faults.run import Kills


@pytest.mark.timeout(900)
async def test_kills_change_nothing(tmp_path: Path) -> None:
    drops = scenario(cameras=5, photos=16, seed=7)
    golden, struck, wrong = await compare(tmp_path, drops, Kills(3, random.Random(7)), originals="take")
    assert wrong == []
    assert (struck.killed, struck.killed_while_ready) == (3, 1)
    assert len(golden.outcome.events) > 5
