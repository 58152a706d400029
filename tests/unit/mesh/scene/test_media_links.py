"""Tracks of events with clips: linked within each media first, then across media whose clocks differ."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.geometry import Box, Polygon, Segment
from mesh.scene.links import SeenObject, link
from mesh.scene.media_links import LinkedObjects, link_media
from mesh.scene.places import SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import FIRST_VERSION, Direction, derive_tracks

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
CLOCK = 3.0
BOUNDARY = SceneLine("boundary", "Boundary", Segment((0.5, 0), (0.5, 1)))
PORCH = SceneZone("porch", "Porch", ZoneKind.ENTRY, Polygon(((0.5, 0), (1, 0), (1, 1), (0.5, 1))))


def seen(second: float, x: float, media: str, label: str = "person", y: float = 0.8) -> SeenObject:
    box: Box = (x - 0.05, y - 0.3, x + 0.05, y)
    return SeenObject(label, 0.9, box, START + timedelta(seconds=second), media)


def walker(second: float) -> float:
    """Where a walker is at a second: 0.06 of the picture's width a second."""
    return 0.1 + 0.06 * second


def clip(media: str, shift: float = 0.0, seconds: int = 12, way=walker, y: float = 0.8) -> list[SeenObject]:  # type: ignore[no-untyped-def]
    """Twice a second, by a clock that is ahead by `shift`."""
    return [seen(step / 2 + shift, way(step / 2), media, y=y) for step in range(2 * seconds)]


def link_of(objects: Sequence[SeenObject]) -> list[LinkedObjects]:
    return link_media(objects, CLOCK)


@pytest.mark.parametrize("shift", [-4.0, -3.0, -1.0, 0.0, 1.0, 3.0, 4.0])
@pytest.mark.parametrize("taken_at", [0.0, 3.0, 6.0, 11.0])
def test_a_snapshot_and_a_clip_of_one_scene_show_one_person(shift: float, taken_at: float) -> None:
    """Also if their clocks are four seconds apart, in either direction."""
    snapshot = [seen(taken_at + shift, walker(taken_at), "snapshot")]
    (one,) = link_of([*snapshot, *clip("clip")])
    assert sorted(one.indexes) == list(range(25))
    assert len(one.path) >= 24


def test_the_order_of_the_detections_changes_nothing() -> None:
    objects = [seen(2.5, walker(1), "snapshot"), *clip("clip"), *clip("other", shift=2, way=lambda _: 0.9)]
    expected = [{objects[index] for index in each.indexes} for each in link_of(objects)]
    for seed in range(5):
        shuffled = Random(seed).sample(objects, len(objects))
        assert [{shuffled[index] for index in each.indexes} for each in link_of(shuffled)] == expected


def test_two_people_in_a_clip_and_in_a_snapshot_are_two() -> None:
    def other(second: float) -> float:
        return 0.9 - 0.01 * second

    snapshot = [seen(3, walker(2), "snapshot"), seen(3, other(2), "snapshot")]
    tracks = link_of([*snapshot, *clip("clip"), *clip("clip", way=other)])
    assert [len(track.indexes) for track in tracks] == [25, 25]
    assert {0, 1} == {index for track in tracks for index in track.indexes if index < 2}


def test_somebody_elsewhere_in_the_snapshot_is_somebody_else() -> None:
    tracks = link_of([seen(2, 0.9, "snapshot", y=0.35), *clip("clip", seconds=3)])
    assert sorted(len(track.indexes) for track in tracks) == [1, 6]


def test_two_clips_of_one_walk_one_after_the_other_are_one_track() -> None:
    second = [seen(one, walker(one), "second") for one in (12.5, 13.0, 13.5)]
    (one,) = link_of([*clip("first"), *second])
    assert len(one.path) == 27


def test_where_somebody_was_follows_the_media_that_shows_most() -> None:
    """Mixed by time alone, the walker would cross the line back and forth."""
    snapshots = [seen(taken + 4, walker(taken), f"photo {taken}") for taken in (5, 6, 7)]
    objects = [*clip("clip"), *snapshots]
    (track,) = derive_tracks(objects, [PORCH], [BOUNDARY], None)
    assert [crossing.direction for crossing in track.crossings] == [Direction.OUTWARDS]
    assert len(track.visits) == 1
    assert len(track.indexes) == 27
    mixed = derive_tracks(objects, [PORCH], [BOUNDARY], None, FIRST_VERSION)
    assert sum(len(each.crossings) for each in mixed) != 1


@given(
    some.lists(
        some.tuples(
            some.integers(0, 40),
            some.floats(0.06, 0.94),
            some.sampled_from(("person", "dog", "car")),
            some.floats(0.31, 0.99),
        ),
        max_size=25,
    )
)
def test_photos_are_linked_as_before(found: list[tuple[int, float, str, float]]) -> None:
    objects = [seen(second, x, f"photo {second}", label, y) for second, x, label, y in found]
    assert [each.indexes for each in link_of(objects)] == link(objects)
    assert derive_tracks(objects, [PORCH], [BOUNDARY], None) == derive_tracks(
        objects, [PORCH], [BOUNDARY], None, FIRST_VERSION
    )


@given(
    some.lists(
        some.tuples(
            some.integers(0, 60), some.floats(0.06, 0.94), some.sampled_from("abc"), some.floats(0.31, 0.99)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_object_is_in_one_track_and_no_frame_twice(found: list[tuple[int, float, str, float]]) -> None:
    objects = [seen(second / 2, x, media, y=y) for second, x, media, y in found]
    linked = link_of(objects)
    assert sorted(index for each in linked for index in each.indexes) == list(range(len(objects)))
    for each in linked:
        frames = [(objects[index].captured_at, objects[index].media) for index in each.indexes]
        assert len(set(frames)) == len(frames)
        assert frames == sorted(frames)
        assert set(each.path) <= set(each.indexes)
        assert each.path
