from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.ingest_svc.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Not running yet; its loop is the test's."""
    house = House(tmp_path / "home")
    yield house
    house.blobs.close()
