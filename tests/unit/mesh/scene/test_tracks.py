from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from random import Random

from hypothesis import given
from hypothesis import strategies as some

from mesh.scene.geometry import Box, Polygon, Segment
from mesh.scene.links import SeenObject, link
from mesh.scene.places import GROUND_ID, Ground, Place, SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import Direction, SceneTrack, derive_tracks

START = datetime(2026, 11, 27, 12, tzinfo=UTC)
PAVEMENT = SceneZone("pavement", "Pavement", ZoneKind.PUBLIC, Polygon(((0, 0), (1, 0), (1, 0.5), (0, 0.5))))
PORCH = SceneZone("porch", "Porch", ZoneKind.ENTRY, Polygon(((0, 0.5), (1, 0.5), (1, 1), (0, 1))))
BOUNDARY = SceneLine("boundary", "Boundary", Segment((0, 0.5), (1, 0.5)))


def seen(
    second: float, x: float, y: float, label: str = "person", height: float = 0.3, width: float = 0.1
) -> SeenObject:
    """An object whose foot point is x, y."""
    box: Box = (x - width / 2, y - height, x + width / 2, y)
    return SeenObject(label, 0.9, box, START + timedelta(seconds=second), f"{second}")


def tracks_of(objects: Sequence[SeenObject]) -> list[SceneTrack]:
    return derive_tracks(objects, [PAVEMENT, PORCH], [BOUNDARY], None)


def test_somebody_who_walks_is_one_track() -> None:
    walk = [seen(2.0 * step, 0.1 + 0.2 * step, 0.4) for step in range(5)]
    assert link(walk) == [[0, 1, 2, 3, 4]]


def test_somebody_at_another_end_of_the_picture_a_second_later_is_another() -> None:
    assert link([seen(0, 0.05, 0.4, height=0.2), seen(1, 0.95, 0.4, height=0.2)]) == [[0], [1]]


def test_two_things_of_one_frame_are_never_one_track() -> None:
    assert link([seen(0, 0.5, 0.5), seen(0, 0.5, 0.5)]) == [[0], [1]]


def test_another_label_or_another_size_is_another_thing() -> None:
    assert link([seen(0, 0.5, 0.5), seen(2, 0.5, 0.5, label="dog")]) == [[0], [1]]
    assert link([seen(0, 0.5, 0.9, height=0.8), seen(2, 0.5, 0.9, height=0.2)]) == [[0], [1]]


def test_who_comes_back_after_a_long_pause_is_another_track() -> None:
    assert link([seen(0, 0.5, 0.5), seen(31, 0.5, 0.5)]) == [[0], [1]]


def test_the_nearest_continues_a_track() -> None:
    frame = [seen(0, 0.3, 0.5), seen(0, 0.7, 0.5), seen(2, 0.68, 0.5), seen(2, 0.33, 0.5)]
    assert sorted(map(sorted, link(frame))) == [[0, 3], [1, 2]]


def test_visits_and_crossings_of_somebody_who_comes_to_the_door_and_goes() -> None:
    way = [(0, 0.3), (2, 0.45), (4, 0.7), (8, 0.7), (30, 0.7), (32, 0.4)]
    (track,) = tracks_of([seen(second, 0.5, y) for second, y in way])
    assert [(visit.place.zone_id, visit.seconds) for visit in track.visits] == [
        ("pavement", 2.0), ("porch", 26.0), ("pavement", 0.0),
    ]  # fmt: skip
    assert [(crossing.direction, crossing.time) for crossing in track.crossings] == [
        (Direction.INWARDS, START + timedelta(seconds=4)),
        (Direction.OUTWARDS, START + timedelta(seconds=32)),
    ]
    assert not track.stationary


def test_a_line_is_crossed_only_between_its_ends() -> None:
    short = SceneLine("gate", "Gate", Segment((0.4, 0.5), (0.6, 0.5)))
    beside, through = ([seen(0, x, 0.4), seen(2, x, 0.6)] for x in (0.2, 0.5))
    assert derive_tracks(beside, [], [short], None)[0].crossings == ()
    assert [one.direction for one in derive_tracks(through, [], [short], None)[0].crossings] == [
        Direction.INWARDS
    ]


def test_who_stands_on_a_line_crosses_it_once() -> None:
    (track,) = tracks_of([seen(second, 0.5, y) for second, y in [(0, 0.45), (2, 0.5), (4, 0.5), (6, 0.55)]])
    assert [crossing.time for crossing in track.crossings] == [START + timedelta(seconds=6)]
    (track,) = tracks_of([seen(second, 0.5, y) for second, y in [(0, 0.45), (2, 0.5), (4, 0.45)]])
    assert track.crossings == ()


def test_a_vehicle_that_stood_there_before_is_stationary_however_short_it_is_seen() -> None:
    def stood(second: float, stands: bool = True, label: str = "car", x: float = 0.5) -> SeenObject:
        return replace(seen(second, x, 0.4, label), stands=stands)

    for track, stationary in (
        ([stood(0)], True),
        ([stood(0), stood(3)], True),
        ([stood(0), stood(3, stands=False, x=0.6)], False),
        ([stood(0, label="person")], False),
    ):
        (found,) = tracks_of(track)
        assert found.stationary is stationary


def test_only_vehicles_are_stationary() -> None:
    times = [0.0, 6.0, 12.0]
    (car,) = tracks_of([seen(second, 0.5, 0.4, "car") for second in times])
    (person,) = tracks_of([seen(second, 0.5, 0.4) for second in times])
    (short,) = tracks_of([seen(second, 0.5, 0.4, "car") for second in (0.0, 9.0)])
    (moves,) = tracks_of([seen(second, 0.3 + second / 40, 0.4, "car") for second in times])
    assert (car.stationary, person.stationary, short.stationary, moves.stationary) == (
        True,
        False,
        False,
        False,
    )


def test_outside_the_zones_the_ground_says_what_kind_of_place_it_is() -> None:
    far, near = seen(0, 0.2, 0.4, height=0.2), seen(0, 0.8, 0.9, height=0.6)
    found = derive_tracks([far, near], [], [], Ground.FRONT_DOOR)
    assert [track.visits[0].place for track in found] == [
        Place(GROUND_ID, ZoneKind.ENTRY), Place(GROUND_ID, ZoneKind.PUBLIC),
    ]  # fmt: skip
    assert derive_tracks([far], [], [], None)[0].visits == ()
    assert derive_tracks([far], [PAVEMENT], [], Ground.INSIDE)[0].visits[0].place.zone_id == "pavement"


def test_time_between_two_places_belongs_to_neither() -> None:
    (track,) = derive_tracks([seen(0, 0.5, 0.3), seen(2, 0.5, 0.55), seen(4, 0.5, 0.3)], [PAVEMENT], [], None)
    assert [visit.seconds for visit in track.visits] == [0.0, 0.0]


share = some.integers(1, 20).map(lambda number: number / 20)
things = some.lists(
    some.builds(
        seen,
        some.integers(0, 8).map(float),
        share,
        share,
        some.sampled_from(["person", "car"]),
        some.sampled_from([0.1, 0.3]),
    ),
    max_size=8,
)


@given(things, some.randoms())
def test_the_order_of_the_detections_means_nothing(objects: list[SeenObject], random: Random) -> None:
    shuffled = list(objects)
    random.shuffle(shuffled)

    def described(order: list[SeenObject]) -> list[str]:
        return sorted(
            repr(([order[index] for index in track.indexes], track.visits, track.crossings, track.stationary))
            for track in tracks_of(order)
        )

    assert described(objects) == described(shuffled)


@given(things)
def test_every_detection_is_in_one_track(objects: list[SeenObject]) -> None:
    assert sorted(index for track in link(objects) for index in track) == list(range(len(objects)))
    for track in tracks_of(objects):
        times = [objects[index].captured_at for index in track.indexes]
        assert times == sorted(set(times))


def test_the_three_orders_of_a_crowded_moment_agree() -> None:
    crowd = [seen(0, 0.4, 0.5), seen(0, 0.6, 0.5), seen(2, 0.5, 0.5)]
    found = {
        frozenset(frozenset(order[index] for index in track) for track in link(order))
        for order in permutations(crowd)
    }
    assert len(found) == 1
