"""A short `make faults`, with a fixed seed: a cluster of two replicas each, with a folder of blobs."""

from pathlib import Path

import pytest

from tests.faults.cluster import Layout
from tests.faults.run import run_part

SEED, ROUNDS, FAULTS = 3691, 9, 12


@pytest.mark.timeout(600)
async def test_faults_change_nothing(tmp_path: Path) -> None:
    result = await run_part(SEED, ROUNDS, 10.0, Layout(blobs="file"), tmp_path)
    assert result.wrong == []
    assert len(result.faults) == FAULTS
    assert all(fault.proof for fault in result.faults)
    kinds = {fault.kind for fault in result.faults}
    assert {"take over the watch", "kill a server"} <= kinds
    assert result.counts["media"] > ROUNDS * 24
    assert result.counts["events"] > ROUNDS * 5
