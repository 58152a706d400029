from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ingest_harness import IngestHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[IngestHarness]:
    """Not running yet; its loop is the test's."""
    harness = IngestHarness(tmp_path / "home")
    yield harness
    harness.blobs.close()
