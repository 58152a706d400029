"""The bounds of frames/v1, whatever a clip's looks are."""

from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from detect_svc.frames.choice import (
    LOOK_MS,
    MAX_GAP_MS,
    MINUTE_MS,
    RUN,
    Candidate,
    FramePlan,
    FrameSettings,
    LookSorter,
    choose,
    minutes,
    needs_survey,
)

DEFAULTS = FrameSettings(2.0, 30, 300, 0.5, 0.002, 320)
MOVING = 0.1
Look = tuple[int, float]


def chosen_of(looks: list[Look], given: FrameSettings = DEFAULTS) -> tuple[list[Candidate], list[int]]:
    """All candidates, and the indices of those that are chosen, minute by minute as the decoder does it."""
    span = looks[-1][0]
    moving = {index // MINUTE_MS for index, movement in looks if movement >= given.motion_threshold}
    plan = FramePlan.of(given, span, len(moving))
    sorter = LookSorter(plan.step, given.motion_threshold)
    candidates: list[Candidate] = []
    chosen: list[int] = []
    by_minute: dict[int, list[Look]] = {}
    for look in looks:
        by_minute.setdefault(look[0] // MINUTE_MS, []).append(look)
    parts = [*by_minute.values(), []]
    for within, behind in pairwise(parts):
        found = sorter.candidates(within)
        if not behind and found[-1].index != span:
            found.append(Candidate(*looks[-1], False))  # the last frame is always one
        chosen += [found[at].index for at in choose(found, plan, given, behind[0][0] if behind else -1)]
        candidates += found
    return candidates, chosen


def still(seconds: float) -> list[Look]:
    return [(at, 0.0) for at in range(0, round(seconds * 1000) + 1, LOOK_MS)]


def moving(seconds: float, begin: float, end: float) -> list[Look]:
    return [
        (at, MOVING + at % 7 / 100 if begin * 1000 <= at < end * 1000 else 0.0)
        for at in range(0, round(seconds * 1000) + 1, LOOK_MS)
    ]


movements = st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.05, 0.3])


@st.composite
def some_looks(draw: st.DrawFn) -> list[Look]:
    """A clip of up to an hour with stretches of movement, and frames at any times."""
    spans = draw(st.lists(st.tuples(st.integers(1, 400), movements), min_size=1, max_size=9))
    interval = draw(st.sampled_from([500, 500, 533, 1000, 3000, 40_000]))
    looks, at = [], 0
    for count, movement in spans:
        for _ in range(count):
            looks.append((at, movement))
            at += interval
            if at > 3_600_000:
                return looks
    return looks


some_settings = st.builds(
    FrameSettings,
    frame_seconds=st.sampled_from([0.5, 1.0, 2.0, 3.3, 10.0, 15.0]),
    frames_per_minute=st.sampled_from([1, 2, 3, 10, 30, 120]),
    max_frames=st.sampled_from([2, 3, 50, 300, 1000]),
    motion_sensitivity=st.just(0.5),
    motion_threshold=st.sampled_from([0.0, 0.02, 1.0]),
    input_side=st.just(320),
)


@settings(deadline=None, phases=[Phase.explicit, Phase.generate])
@given(some_looks(), some_settings)
def test_all_bounds_hold(looks: list[Look], given_settings: FrameSettings) -> None:
    candidates, chosen = chosen_of(looks, given_settings)
    span = looks[-1][0]

    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] == span or given_settings.max_frames == 1
    assert len(chosen) <= given_settings.max_frames
    indices = [one.index for one in candidates]
    assert indices == sorted(set(indices))
    for minute in range(minutes(span)):
        count = sum(index // MINUTE_MS == minute for index in chosen)
        has_movement = any(one.moves for one in candidates if one.index // MINUTE_MS == minute)
        # Beside the budget: the gaps' frames, the first and the last.
        assert count <= given_settings.frames_per_minute * has_movement + max(
            given_settings.frames_per_minute, 2 * MINUTE_MS // MAX_GAP_MS + 3
        )
    if given_settings.max_frames >= 300:
        for before, after in pairwise(chosen):
            assert after - before <= MAX_GAP_MS or not [
                one for one in indices if before < one < after - LOOK_MS
            ]


@pytest.mark.parametrize("seconds", [5, 20, 45, 56, 60, 90, 300])
def test_a_short_clip_without_movement_is_looked_at_evenly(seconds: int) -> None:
    _, chosen = chosen_of(still(seconds))

    assert len(chosen) <= DEFAULTS.frames_per_minute
    assert len(chosen) >= min(seconds // 2, 23)
    assert max(after - before for before, after in pairwise(chosen)) <= max(2000, seconds * 1000 // 20)


def test_a_long_clip_without_movement_is_looked_at_every_15_seconds() -> None:
    _, chosen = chosen_of(still(1800))

    assert 1800 / 15 < len(chosen) <= 1800 / 13
    assert max(after - before for before, after in pairwise(chosen)) <= MAX_GAP_MS


def test_movement_gets_the_budget_of_its_minutes_in_runs() -> None:
    candidates, chosen = chosen_of(moving(600, 130, 175))

    moves = {one.index for one in candidates if one.moves}
    assert len([index for index in chosen if index in moves]) >= 28
    assert len([index for index in chosen if 120_000 <= index < 180_000]) <= 30 + 3
    in_movement = [index for index in chosen if 130_000 <= index < 175_000]
    assert runs(in_movement, LOOK_MS) >= 0.9


def runs(indices: list[int], step: int) -> float:
    """The share of frames that are in runs of RUN or more."""
    groups: list[list[int]] = []
    for index in indices:
        if groups and index - groups[-1][-1] <= step:
            groups[-1].append(index)
        else:
            groups.append([index])
    return sum(len(group) for group in groups if len(group) >= RUN) / len(indices)


def test_a_moment_of_movement_gets_a_run() -> None:
    looks = still(300)
    looks[101] = (looks[101][0], MOVING)
    _, chosen = chosen_of(looks)

    assert {50_000, 50_500, 51_000} <= set(chosen)


def test_movement_that_fits_is_taken_whole() -> None:
    candidates, chosen = chosen_of(moving(120, 70, 80))

    assert [one.index for one in candidates if one.moves] == [
        index for index in chosen if 69_500 <= index <= 80_000
    ]


def test_an_hour_of_movement_keeps_within_the_limit_and_is_covered_evenly() -> None:
    _, chosen = chosen_of(moving(3599, 0, 3600))

    assert 250 <= len(chosen) <= 300
    assert (chosen[0], chosen[-1]) == (0, 3_599_000)
    assert max(after - before for before, after in pairwise(chosen)) <= MAX_GAP_MS
    by_part = [sum(part * 600_000 <= index < (part + 1) * 600_000 for index in chosen) for part in range(6)]
    assert max(by_part) - min(by_part) <= 12
    assert sum(after - before == LOOK_MS for before, after in pairwise(chosen)) >= 6  # runs, too


def test_two_minutes_of_movement_in_an_hour_get_their_budget() -> None:
    looks = [(at, MOVING if 2_000_000 <= at < 2_100_000 else 0.0) for at in range(0, 3_600_000, LOOK_MS)]
    _, chosen = chosen_of(looks)

    # The gaps of the hour take most of what a clip may have.
    assert len([index for index in chosen if 2_000_000 <= index < 2_100_000]) >= 30
    assert len(chosen) <= 300


def test_the_frame_with_most_movement_of_a_run_is_among_those_chosen() -> None:
    looks = moving(60, 0, 60)
    looks[41] = (looks[41][0], 0.9)
    _, chosen = chosen_of(looks, DEFAULTS._replace(frames_per_minute=6))

    assert looks[41][0] in chosen


def test_where_nothing_counts_the_ranks_still_do() -> None:
    looks = still(440)
    looks[24] = (12_000, 0.001)  # too little to count as movement
    _, chosen = chosen_of(looks)

    assert 12_000 in chosen


@pytest.mark.parametrize(
    ("span", "survey"), [(0, False), (470_000, False), (599_000, True), (3_600_000, True)]
)
def test_only_clips_that_may_exceed_their_limit_are_surveyed(span: int, survey: bool) -> None:
    assert needs_survey(DEFAULTS, span) is survey
