"""The choice of faults: by the seed alone, and evenly."""

from collections import Counter

import pytest

from tests.faults.boundaries import BOUNDARIES
from tests.faults.cluster import STANDBY, WATCHER, Layout
from tests.faults.inflicting import KINDS
from tests.faults.plan import BOUNDARY, WEIGHTS, Fault, Plan

LAYOUT = Layout(replicas=2, brokers=3)


def planned(seed: int, rounds: int, layout: Layout = LAYOUT) -> list[Fault]:
    plan = Plan(seed, layout)
    return [fault for _ in range(rounds) for fault in plan.round().faults]


def test_a_seed_repeats_its_faults() -> None:
    assert planned(5, 100) == planned(5, 100) != planned(6, 100)


def test_every_kind_can_be_inflicted() -> None:
    assert KINDS.keys() == WEIGHTS.keys() | {BOUNDARY}


def test_faults_are_spread_evenly() -> None:
    hits = Counter(fault.detail if fault.kind == BOUNDARY else fault.kind for fault in planned(1, 400))
    for boundary in BOUNDARIES:
        assert hits[boundary.name] >= (5 if boundary.blobs in ("any", "s3") else 0), boundary.name
    assert {kind: hits[kind] for kind in WEIGHTS if hits[kind] < 10} == {}


def test_faults_hit_who_watches_and_who_stands_by() -> None:
    faults = planned(1, 400)
    for role in (WATCHER, STANDBY):
        kinds = {fault.kind for fault in faults if role in fault.touches}
        assert {"kill a service", "pause", "partition", "terminate", "remove a replica"} <= kinds
    assert not [fault for fault in faults if fault.touches & {"ingest-1", "ingest-2"}]


@pytest.mark.parametrize("model", ["triton", "llama"])
@pytest.mark.parametrize("seed", range(20))
def test_a_part_with_a_model_is_about_it(model: str, seed: int) -> None:
    layout = Layout(brokers=3, detector=model) if model == "triton" else Layout(reasoner=model)
    faults = planned(seed, 38, layout)
    hits = Counter(fault.kind for fault in faults if model in fault.touches)
    kinds = {"kill a server", "pause", "partition"} | ({"restart a server"} if model == "llama" else set())
    assert hits.keys() == kinds
    assert 6 <= hits.total() <= 0.5 * len(faults)


def test_what_a_layout_lacks_is_not_chosen() -> None:
    faults = planned(2, 300, Layout(blobs="file"))
    names = {boundary.name for boundary in BOUNDARIES if boundary.blobs == "s3"}
    assert not [fault for fault in faults if fault.detail in names or "s3" in fault.target]


def test_two_faults_at_once_touch_different_processes() -> None:
    plan, both = Plan(3, LAYOUT), 0
    for _ in range(200):
        faults = plan.round().faults
        both += len(faults) == 2
        assert len(faults) == 1 or not faults[0].touches & faults[1].touches
    assert both > 40


def test_a_fault_that_is_dropped_counts_for_nothing() -> None:
    """Else what it would have hit is hit less often from then on."""
    plan, hit = Plan(3, LAYOUT), Counter[tuple[str, str]]()
    for _ in range(200):
        hit.update((fault.kind, fault.target) for fault in plan.round().faults)
    # The kinds whose target is always the service that was hit least.
    kinds = {"kill a service", "clock jump", "terminate", "remove a replica"}
    counted = {cell: times for cell, times in plan._chosen_for.items() if cell[0] in kinds}
    assert {kind for kind, _ in counted} == kinds
    assert counted == {cell: hit[cell] for cell in counted}
