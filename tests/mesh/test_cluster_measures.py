"""The measures of `make bench` that need a cluster, with few photos. What they find is not looked at."""

from pathlib import Path

import pytest

from tests.bench import cameras, drain, partitions, replicas
from tests.bench.measure import Row
from tests.bench.trees import NOW, Bench
from tests.support.lares import ROOT


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, {NOW: ROOT}, 1, frozenset(), photos=10 * drain.CAMERAS)


async def test_replicas(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for turns in ("STUB_TURNS", "EMBEDDED_TURNS", "STORE_TURNS"):
        monkeypatch.setattr(replicas, turns, 2)
    rows = await replicas.measure(bench)
    assert [row.measure for row in rows if not row.measure.startswith(" ")] == [
        "2 detect replicas, stub detector of 25 ms, photos a second",
        "2 detect replicas, embedded detector, photos a second",
        "2 store replicas, photos a second",
    ]
    assert_each_part_has_a_row(rows, "detect", "detector", "store", "Kafka", "PostgreSQL")


async def test_partitions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "PARTITIONS", (1, 4))
    monkeypatch.setattr(partitions, "TURNS", 2)
    rows = await partitions.measure(bench)
    assert rows[0].measure == "4 partitions, 2 replicas, stub of 25 ms, photos a second"
    assert rows[0].compared_with.startswith("1 partition ")
    assert_each_part_has_a_row(rows, "detect", "store", "Kafka", "PostgreSQL")


async def test_drain(bench: Bench) -> None:
    rows = await drain.measure(bench)
    assert rows[0].measure == "backlog of 960 photos, stub detector, photos a second"
    assert rows[0].compared_with.startswith("first tenth ")
    assert_each_part_has_a_row(rows, "detect", "store", "reason", "gateway", "Kafka", "PostgreSQL")


async def test_cameras(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "CAMERAS", (3, 12))
    monkeypatch.setattr(cameras, "SECONDS", 1)
    monkeypatch.setattr(cameras, "IDLE_SECONDS", 0.1)
    rows = await cameras.measure(bench)
    assert rows[0].measure == "12 cameras, 20 photos/s of all, CPU of a photo"
    assert rows[0].compared_with.startswith("3 cameras ")
    assert "  memory of ingest" in [row.measure for row in rows]
    assert_each_part_has_a_row(rows, "ingest", "detect", "store", "reason", "gateway", "Kafka", "PostgreSQL")


def assert_each_part_has_a_row(rows: list[Row], *parts: str) -> None:
    assert {row.measure.removeprefix("    of that ") for row in rows if "of that" in row.measure} == set(
        parts
    )
