from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ingest_harness import IngestHarness


@pytest.fixture(autouse=True)
def short_wait_for_unfinished_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_svc.file_importer.UNFINISHED_SECONDS", 0.5)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[IngestHarness]:
    """Does not run yet. It uses the event loop of the test."""
    harness = IngestHarness(tmp_path / "home")
    yield harness
    harness.blobs.close()
