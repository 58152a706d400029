"""Services in processes of their own, on separately started Kafka, PostgreSQL, S3 and Triton, leave the same
behind as one process does with the same photos and clips."""

from pathlib import Path

import pytest

from tests.faults.cluster import Layout
from tests.faults.run import run_part
from tests.support.triton import require_triton


@pytest.mark.timeout(600)
async def test_a_cluster_and_one_process_leave_the_same(tmp_path: Path) -> None:
    require_triton()
    layout = Layout(blobs="s3", detector="triton")
    result = await run_part(1, 2, 10.0, layout, tmp_path, only=("garbage", "slow subscriber"))
    assert result.wrong == []
    assert result.counts["media"] >= 48
    assert result.counts["events"] > 5
