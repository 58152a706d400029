"""The boundaries' table fits the product, and a process that crosses an armed boundary ends there."""

import multiprocessing
import signal
from pathlib import Path

import pytest

from tests.faults.boundaries import BOUNDARIES, Boundary, boundaries_of, claim_file, find, wrap_boundaries
from tests.faults.plan import WEIGHTS
from tests.faults.report import boundary_table
from tests.faults.switches import Switches
from tests.support.lares import ROOT

NAMES = [boundary.name for boundary in BOUNDARIES]


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=NAMES)
def test_every_boundary_is_where_the_table_says(boundary: Boundary) -> None:
    owner, name = find(boundary)
    assert callable(getattr(owner, name))


def test_names_are_used_once() -> None:
    assert len({*NAMES, *WEIGHTS}) == len(NAMES) + len(WEIGHTS)
    assert {boundary.service for boundary in BOUNDARIES} == {"ingest", "detect", "store", "reason"}


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert boundary_table() in page, f"docs/reliability.md must contain:\n{boundary_table()}"


def _cross(path: Path, times: int) -> None:
    """In a process of its own: crosses `ingest.content.flushed`, which is one of a function that is not a
    coroutine."""
    from mesh.blobs import spool

    spool.SpooledFile.sync = lambda self: None  # type: ignore[method-assign]
    wrap_boundaries({"ingest"}, Switches(path))
    for _ in range(times):
        spool.SpooledFile.sync(None)  # type: ignore[arg-type]


def _status_of_crossing(path: Path, times: int) -> int | None:
    process = multiprocessing.get_context("spawn").Process(target=_cross, args=(path, times))
    process.start()
    process.join(60)
    return process.exitcode


def test_an_armed_boundary_ends_one_process(tmp_path: Path) -> None:
    number, boundary = next(
        (number, each) for number, each in boundaries_of({"ingest"}) if each.name == "ingest.content.flushed"
    )
    replicas = [Switches(tmp_path / f"{name}.switches") for name in ("a", "b")]
    assert _status_of_crossing(replicas[0].path, 3) == 0
    assert replicas[0].passes(number) == 3
    for replica in replicas:
        replica.arm(number, 2)
    assert _status_of_crossing(replicas[0].path, 3) == -signal.SIGKILL
    assert replicas[0].passes(number) == 5  # the second crossing was its last
    assert claim_file(tmp_path, boundary).exists()
    # The other replica finds that somebody has ended there already.
    assert _status_of_crossing(replicas[1].path, 3) == 0
