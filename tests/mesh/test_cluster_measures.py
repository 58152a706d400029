"""Measures of `make bench` that need a cluster, on real ones, with few photos. tests/unit/bench has all of
them, and what they make of the figures."""

from pathlib import Path

import pytest

from tests.bench import cameras, replicas
from tests.bench.replicas import StoreRun
from tests.bench.spent import DETECTOR
from tests.bench.trees import NOW, Bench
from tests.support.lares import ROOT


async def test_two_stores_record_what_the_stub_has_found(tmp_path: Path) -> None:
    spent = await StoreRun(replicas=2, turns=2)(tmp_path / "run")
    assert spent.photos == 2 * replicas.CAMERAS
    assert spent.cpu.keys() == {"store", "Kafka", "PostgreSQL"}
    assert spent.cores > 0


async def test_photos_of_cameras_are_assessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "CAMERAS", (12,))
    monkeypatch.setattr(cameras, "SECONDS", 1)
    monkeypatch.setattr(cameras, "IDLE_SECONDS", 0.1)
    rows = await cameras.measure(Bench(tmp_path, {NOW: ROOT}, 1, frozenset()))
    assert rows[0].measure == "12 cameras, 20 photos/s, stub detector, CPU of a photo"
    names = [row.measure for row in rows]
    for service in cameras.COUNTS:
        assert {f"    of that {service}", f"  idle, {service}, % of a core", f"  memory of {service}"} <= {
            *names
        }
    assert {"    of that Kafka", "    of that PostgreSQL"} <= {*names}
    # The stub is in place of the embedded detector, whose processes would have a row.
    assert f"    of that {DETECTOR}" not in names
