"""The memory of vehicles that stand before a camera."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.scene.geometry import Box
from store_svc.domain.vehicle_memory import (
    FORGOTTEN_TIME,
    MOST_VEHICLES,
    Look,
    SeenThing,
    Vehicle,
    VehicleMemory,
)
from store_svc.times import SECOND, micros

MINUTE = 60 * SECOND
BERLIN = "Europe/Berlin"
# At 10:00 there, on a day whose sun sets at 18:07.
START = micros(datetime(2026, 10, 15, 8, tzinfo=UTC))
DRIVE: Box = (0.4, 0.5, 0.6, 0.7)
KERB: Box = (0.0, 0.2, 0.1, 0.3)


def moved(box: Box, x: float = 0.0, y: float = 0.0) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def kept(id: int, box: Box = DRIVE, label: str = "car", score: float = 0.75) -> SeenThing:
    return SeenThing(label, score, box, UUID(int=id))


def below(box: Box = DRIVE, label: str = "car", score: float = 0.2) -> SeenThing:
    """A finding that is not kept."""
    return SeenThing(label, score, box)


def looks(memory: VehicleMemory, *frames: tuple[float, Sequence[SeenThing]]) -> list[Look]:
    """Of frames at these minutes."""
    found = []
    for minute, things in frames:
        at = START + round(minute * MINUTE)
        found.append(memory.look(at, things, len(things)))
        memory.newest_at = max(memory.newest_at, at)
    return found


def parked(minutes: Iterable[float] = (0, 5, 10)) -> VehicleMemory:
    """With a car that was seen at these minutes; its id is 1."""
    memory = VehicleMemory([], 0, BERLIN)
    looks(memory, *((minute, [kept(n)]) for n, minute in enumerate(minutes, 1)))
    return memory


def ids(look: Look) -> set[int]:
    return {id.int for id in look.standing}


class TestStanding:
    @pytest.mark.parametrize(
        ("minutes", "stands"),
        [((0, 5, 10), True), ((0, 10), False), ((0, 1, 2, 3, 9.9), False), ((0, 0.1, 10), True)],
    )
    def test_needs_three_frames_over_ten_minutes(self, minutes: Sequence[float], stands: bool) -> None:
        (look,) = looks(parked(minutes), (11, [kept(9)]))
        assert ids(look) == ({9} if stands else set())

    def test_begins_after_the_frame_that_shows_it(self) -> None:
        """The frame by which it is known to stand there still belongs to its coming."""
        memory = VehicleMemory([], 0, BERLIN)
        found = looks(memory, (0, [kept(1)]), (5, [kept(2)]), (10, [kept(3)]), (10.1, [kept(4)]))
        assert [ids(look) for look in found] == [set(), set(), set(), {4}]
        assert [[v.id.int for v in look.came] for look in found] == [[], [], [1], []]

    @pytest.mark.parametrize("label", ["person", "dog", "bear", "horse", "chair"])
    def test_is_for_vehicles_only(self, label: str) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        found = looks(memory, *((minute, [kept(minute, label=label)]) for minute in range(1, 40)))
        assert not any(found_.standing for found_ in found)
        assert not memory.vehicles

    def test_what_moves_never_stands(self) -> None:
        """Also if each frame shows it nearly where the last one did."""
        memory = VehicleMemory([], 0, BERLIN)
        for n in range(300):
            box = moved(DRIVE, x=-0.4 + n * 0.002)
            (look,) = looks(memory, (n / 5, [kept(n + 1, box)]))
            assert not look.standing

    def test_another_vehicle_beside_it_is_another(self) -> None:
        memory = parked()
        (look,) = looks(memory, (11, [kept(8), kept(9, moved(DRIVE, x=0.06))]))
        assert ids(look) == {8}

    def test_a_vehicle_that_drives_past_in_front_of_it_is_another(self) -> None:
        (look,) = looks(parked(), (11, [kept(9, (0.3, 0.45, 0.8, 0.9), "truck")]))
        assert not look.standing

    def test_knows_it_by_any_vehicles_label(self) -> None:
        """Two boxes of one thing, of two labels, are the same thing, too."""
        memory = VehicleMemory([], 0, BERLIN)
        for n, label in enumerate(["car", "truck", "car", "bus"]):
            looks(memory, (n * 5, [kept(2 * n + 1, label=label), kept(2 * n + 2, label="truck", score=0.6)]))
        (look,) = looks(memory, (20, [kept(98, label="truck"), kept(99, label="car")]))
        assert ids(look) == {98, 99}
        assert len(memory.vehicles) == 1

    def test_has_the_label_of_the_most_certain_detection(self) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        looks(memory, (0, [kept(1, label="truck", score=0.6)]), (5, [kept(2, score=0.9)]), (6, [kept(3)]))
        (vehicle,) = memory.vehicles.values()
        assert (vehicle.label, vehicle.score, vehicle.frames) == ("car", 0.9, 3)

    def test_findings_below_the_threshold_count_for_what_is_known(self) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        looks(memory, (0, [below()]))
        assert not memory.vehicles
        looks(memory, (1, [kept(1)]), (5, [below()]), (11, [below()]))
        assert all(vehicle.stands for vehicle in memory.vehicles.values())


class TestLeaving:
    @pytest.mark.parametrize(
        ("seconds", "leaves"),
        [((0, 5, 10), True), ((0, 20), False), ((0, 1, 2), False), ((0, 1, 2, 10), True)],
    )
    def test_needs_three_frames_over_ten_seconds(self, seconds: Sequence[float], leaves: bool) -> None:
        memory = parked()
        found = looks(memory, *((11 + second / 60, []) for second in seconds))
        assert [len(look.left) for look in found] == [0] * (len(seconds) - 1) + [int(leaves)]
        assert bool(memory.vehicles) is not leaves
        if leaves:
            assert found[-1].left[0].missed_at == START + 11 * MINUTE

    def test_needs_them_in_a_row(self) -> None:
        memory = parked()
        found = looks(memory, (11, []), (12, []), (13, [below()]), (14, []), (15, []))
        assert not any(look.left for look in found)

    def test_a_frame_in_which_it_is_hidden_does_not_lack_it(self) -> None:
        """By a person, or by another vehicle; a ghost hides nothing."""
        person = below((0.3, 0.3, 0.55, 0.9), "person", 0.6)
        truck = kept(9, (0.2, 0.3, 0.9, 0.9), "truck")
        memory = parked()
        found = looks(memory, *((11 + n, [person if n % 2 else truck]) for n in range(9)))
        assert not any(look.left for look in found)
        ghost = below((0.0, 0.0, 1.0, 1.0), "bed", 0.2)
        found = looks(memory, *((30 + n, [ghost]) for n in range(3)))
        assert [len(look.left) for look in found] == [0, 0, 1]

    def test_what_only_came_by_is_forgotten_and_leaves_nothing(self) -> None:
        memory = parked((0, 1))
        found = looks(memory, (2, []), (3, []), (4, []))
        assert not any(look.left for look in found)
        assert not memory.vehicles

    def test_the_others_stay(self) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        looks(memory, *((n * 5, [kept(2 * n + 1), kept(2 * n + 2, KERB)]) for n in range(4)))
        found = looks(memory, *((20 + n, [kept(50 + n, KERB)]) for n in range(3)))
        assert [[v.id.int for v in look.left] for look in found] == [[], [], [1]]
        assert [ids(look) for look in found] == [{50}, {51}, {52}]

    def test_what_took_its_place_replaces_it(self) -> None:
        """A larger one: it hides the place until it leaves, which is one leaving, not two."""
        van: Box = (0.35, 0.4, 0.7, 0.75)
        memory = parked()
        looks(memory, *((11 + n * 6, [kept(20 + n, van, "truck")]) for n in range(3)))
        assert [vehicle.label for vehicle in memory.vehicles.values()] == ["truck"]
        found = looks(memory, (30, []), (31, []), (32, []))
        assert [len(look.left) for look in found] == [0, 0, 1]


PERSON, PLANT = below((0.8, 0.1, 0.9, 0.5), "person", 0.6), below((0.0, 0.0, 0.1, 0.1), "potted plant", 0.12)
# At 18:00, 22:00, 7:35 and 8:30, in minutes after START.
DUSK, NIGHT, SUNRISE, MORNING = 8 * 60, 12 * 60, 21 * 60 + 35, 22.5 * 60
OFF: Box = moved(DRIVE, 0.14)  # where it is when it drives off: it covers less than half of its place


def lit(minute: float, *things: SeenThing) -> VehicleMemory:
    """With a car that is well seen until this minute."""
    memory = parked()
    looks(memory, (minute - 1, [kept(5), *things]), (minute, [kept(6), *things]))
    return memory


class TestDarkness:
    """A place that is too dark looks empty."""

    @pytest.mark.parametrize("things", [[], [PERSON], [PLANT]])
    def test_what_the_dusk_hides_has_not_left(self, things: list[SeenThing]) -> None:
        memory = lit(DUSK - 5)
        fading = [(DUSK + n, [below(score=0.7 - n / 10), *things]) for n in range(6)]
        found = looks(memory, *fading, *((DUSK + 6 + n, things) for n in range(60)))
        found += looks(memory, *((minute, things) for minute in range(NIGHT, SUNRISE, 10)))
        assert not any(look.left or look.came for look in found)
        (morning,) = looks(memory, (MORNING, [kept(9)]))
        assert ids(morning) == {9}

    def test_a_lamp_that_goes_out_takes_nothing_away(self) -> None:
        memory = lit(NIGHT)
        found = looks(memory, *((NIGHT + n / 10, [PERSON] if n % 2 else []) for n in range(1, 60)))
        assert not any(look.left for look in found)

    @pytest.mark.parametrize("seconds", [(10, 12, 14, 25), (60, 120, 900, 950)])
    def test_what_is_seen_to_drive_off_has_left(self, seconds: Sequence[float]) -> None:
        memory = lit(NIGHT)
        drives, *empty = (NIGHT + second / 60 for second in seconds)
        found = looks(memory, (drives, [kept(7, OFF)]), *((minute, []) for minute in empty))
        assert [len(look.left) for look in found] in ([0, 0, 0, 1], [0, 0, 1, 0])
        assert [look.left[0].missed_at for look in found if look.left] == [START + round(drives * MINUTE)]

    def test_what_left_unseen_is_missed_by_day(self) -> None:
        memory = lit(DUSK - 5)
        found = looks(
            memory, *((NIGHT + n, []) for n in range(30)), *((MORNING + n, [PLANT]) for n in range(3))
        )
        assert [len(look.left) for look in found] == [0] * 32 + [1]
        assert found[-1].left[0].missed_at == START + round(MORNING * MINUTE)

    @pytest.mark.parametrize(
        "things",
        [
            pytest.param([kept(7, moved(DRIVE, 0.3))], id="elsewhere"),
            pytest.param([kept(7, moved(DRIVE, 0.08))], id="a bad box of itself"),
            pytest.param([below(OFF, score=0.2)], id="a ghost"),
            pytest.param([below(OFF, "person", 0.9)], id="no vehicle"),
        ],
    )
    def test_what_does_not_drive_off_takes_nothing_away(self, things: list[SeenThing]) -> None:
        memory = lit(NIGHT)
        found = looks(memory, (NIGHT + 0.2, things), *((NIGHT + 1 + n, []) for n in range(9)))
        assert not any(look.left for look in found)

    def test_a_car_that_passes_takes_nothing_away_that_has_faded(self) -> None:
        """Or that is still seen afterwards."""
        passing = [kept(7, OFF)]
        fading = [*((DUSK + 1 + n, [below(score=0.2)]) for n in range(3)), (DUSK + 3.1, passing)]
        for before in (fading, [(DUSK + 0.5, passing), (DUSK + 0.6, [kept(8)])]):
            memory = lit(DUSK)
            found = looks(memory, *before, *((before[-1][0] + 0.1 + n, []) for n in range(9)))
            assert not any(look.left for look in found)
        for gone_for in (1.9, 2.1):
            memory = lit(DUSK)
            found = looks(memory, (DUSK + gone_for, passing), *((DUSK + 3 + n, []) for n in range(9)))
            assert any(look.left for look in found) is (gone_for < 2)

    def test_a_car_that_passed_long_ago_takes_nothing_away(self) -> None:
        """It hid the parked one, and was itself hidden by the night."""
        truck = kept(9, (0.2, 0.3, 0.9, 0.9), "truck")
        memory = lit(DUSK)
        found = looks(memory, (DUSK + 1, [kept(7, OFF), truck]), *((NIGHT + n, []) for n in range(9)))
        assert not any(look.left for look in found)

    def test_another_that_stands_beside_it_does_not_drive_off(self) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        looks(memory, *((NIGHT - 30 + n * 10, [kept(2 * n + 1), kept(2 * n + 2, OFF)]) for n in range(4)))
        found = looks(memory, *((NIGHT + 0.1 + n, [kept(50 + n, OFF)]) for n in range(9)))
        assert not any(look.left for look in found)

    def test_those_who_pass_by_night_do_not_add_up(self) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        for n in range(6):
            start = NIGHT + 20 * n
            (look, *_) = looks(memory, (start, [kept(n + 1)]), *((start + 1 + k, []) for k in range(3)))
            assert not look.standing
        assert not memory.vehicles


class TestCoveredCamera:
    def test_what_it_does_not_show_has_not_left(self) -> None:
        """Nothing at all is found, where always something was."""
        memory = lit(60, PLANT)
        looks(memory, *((60 + n, [kept(20 + n), PLANT]) for n in range(1, 4)))
        found = looks(memory, *((70 + n, []) for n in range(100)))
        assert not any(look.left for look in found)
        (uncovered,) = looks(memory, (180, [kept(9), PLANT]))
        assert ids(uncovered) == {9}

    def test_shows_that_it_has_left_once_it_shows_anything(self) -> None:
        memory = lit(60, PLANT)
        looks(memory, *((60 + n, [kept(20 + n), PLANT]) for n in range(1, 4)))
        found = looks(memory, *((70 + n, []) for n in range(9)), *((90 + n, [PLANT]) for n in range(3)))
        assert [len(look.left) for look in found] == [0] * 11 + [1]

    def test_what_drives_off_has_left_even_if_nothing_else_is_found_then(self) -> None:
        memory = lit(60, PLANT)
        looks(memory, *((60 + n, [kept(20 + n), PLANT]) for n in range(1, 4)))
        found = looks(memory, (63.1, [kept(7, OFF)]), *((63.2 + n / 10, []) for n in range(3)))
        assert [len(look.left) for look in found] == [0, 0, 1, 0]


class TestTime:
    def test_a_late_frame_changes_nothing(self) -> None:
        memory = parked()
        (before,) = (replace(vehicle) for vehicle in memory.vehicles.values())
        found = looks(memory, (7, []), (8, []), (9, []), (9.5, [kept(9)]), (-5, [kept(10, KERB)]))
        assert list(memory.vehicles.values()) == [before]
        assert [ids(look) for look in found] == [set(), set(), set(), {9}, set()]

    def test_a_late_frame_brings_back_nothing_that_has_left(self) -> None:
        memory = parked()
        looks(memory, (20, []), (21, []), (22, []))
        found = looks(memory, *((minute, [kept(100 + minute)]) for minute in range(1, 15)))
        assert not memory.vehicles
        found += looks(memory, (23, []), (24, []), (25, []))
        assert not any(look.left or look.standing for look in found)

    def test_a_late_frame_from_before_it_came_is_not_of_it(self) -> None:
        memory = parked((60, 65, 70))
        (look,) = looks(memory, (30, [kept(9)]))
        assert not look.standing

    def test_it_is_forgotten_after_a_month(self) -> None:
        for days, remembered in ((29, True), (31, False)):
            memory = parked()
            (look,) = looks(memory, (days * 24 * 60, [kept(9)]))
            assert bool(look.standing) is remembered
            assert not look.left
            assert len(memory.vehicles) == 1
        assert FORGOTTEN_TIME == 30 * 24 * 60 * MINUTE


def test_the_memory_is_bounded_and_keeps_what_stands() -> None:
    memory = parked()
    hides = below(DRIVE, "person", 0.6)
    for n in range(3 * MOST_VEHICLES):
        box = moved((0.0, 0.0, 0.01, 0.01), x=(n % 50) * 0.012, y=(n // 50) * 0.012)
        looks(memory, (11 + n / 600, [hides, kept(2000 + n, box)]))
        assert len(memory.vehicles) <= MOST_VEHICLES
    assert UUID(int=1) in memory.vehicles


# A few places, of which some overlap, so that what is the same and what hides another is often just so; and
# frames that mostly follow one another, so that vehicles often come to stand and leave.
PLACES = [DRIVE, DRIVE, OFF, moved(DRIVE, 0.02), moved(DRIVE, 0.05), (0.3, 0.4, 0.7, 0.8), KERB]
THING = st.tuples(
    st.sampled_from(["car", "car", "truck", "person"]),
    st.sampled_from([0.1, 0.2, 0.75, 0.9]),
    st.sampled_from(PLACES),
)
FRAME = st.tuples(
    st.sampled_from([0.1, 1, 1, 5, 5, 5, -7, -1]),
    st.one_of(st.just([]), st.just([("car", 0.75, DRIVE)]), st.lists(THING, max_size=3)),
)


def log_of(start: float, frames: list[tuple[float, list[tuple[str, float, Box]]]]) -> "Log":
    minute, log = start, []
    for n, (pause, things) in enumerate(frames):
        minute += pause
        found = [
            SeenThing(label, score, box, UUID(int=100 * n + rank) if score > 0.5 else None)
            for rank, (label, score, box) in enumerate(things)
        ]
        log.append((minute, found))
    return log


# Each frame is repeated some times.
FRAMES = st.builds(
    lambda start, pairs: log_of(start, [frame for frame, times in pairs for _ in range(times)]),
    st.sampled_from([60.0, DUSK - 60.0, NIGHT]),
    st.lists(st.tuples(FRAME, st.integers(1, 5)), max_size=14),
)
Log = list[tuple[float, list[SeenThing]]]


class TestLog:
    @given(FRAMES, st.lists(st.integers(0, 60), max_size=8))
    def test_does_not_depend_on_batches(self, frames: Log, cuts: list[int]) -> None:
        """As the store does it: a memory for each batch, of what the batches before have kept."""
        whole = VehicleMemory([], 0, BERLIN)
        expected = [_flat(look) for frame in frames for look in looks(whole, frame)]
        table: list[Vehicle] = []
        newest, found = 0, []
        for start, end in pairwise([0, *sorted(min(cut, len(frames)) for cut in cuts), len(frames)]):
            memory = VehicleMemory(
                map(replace, sorted(table, key=lambda v: v.id, reverse=True)), newest, BERLIN
            )
            found += [_flat(look) for frame in frames[start:end] for look in looks(memory, frame)]
            known = {vehicle.id for vehicle in table} - memory.changed
            table = [vehicle for id, vehicle in memory.vehicles.items() if id in known | memory.changed]
            newest = memory.newest_at
        assert found == expected
        assert {v.id: v for v in table} == whole.vehicles

    @pytest.mark.parametrize("first", [1, 2])
    def test_who_moves_does_not_depend_on_the_order_of_the_vehicles(self, first: int) -> None:
        """The frame that shows the one moves its box, over a car that passes and touches the other."""
        one, other = (0.0, 0.0, 0.2, 0.2), (0.24, 0.0, 0.44, 0.2)
        memory = VehicleMemory([], 0, BERLIN)
        looks(memory, *((n * 5, [kept(n * 2 + 1, one), kept(n * 2 + 2, other)]) for n in range(3)))
        vehicles = sorted(memory.vehicles.values(), key=lambda each: each.id.int != first)
        memory = VehicleMemory(vehicles, memory.newest_at, BERLIN)
        looks(memory, (11, [kept(7, moved(one, 0.04)), kept(8, moved(one, 0.055))]))
        assert memory.vehicles[UUID(int=2)].moved_at == START + 11 * MINUTE

    @given(FRAMES)
    def test_nothing_but_kept_vehicles_stands(self, frames: Log) -> None:
        memory = VehicleMemory([], 0, BERLIN)
        for minute, things in frames:
            (look,) = looks(memory, (minute, things))
            vehicles = {t.detection_id for t in things if t.label != "person" and t.detection_id}
            assert look.standing <= vehicles
            assert len(memory.vehicles) <= MOST_VEHICLES

    @given(FRAMES)
    def test_who_has_left_has_come_before(self, frames: Log) -> None:
        memory, there = VehicleMemory([], 0, BERLIN), set[UUID]()
        for look in looks(memory, *frames):
            there |= {vehicle.id for vehicle in look.came}
            for vehicle in look.left:
                there.remove(vehicle.id)


def _flat(look: Look) -> tuple[object, ...]:
    return look.standing, [replace(v) for v in look.came], [replace(v) for v in look.left]
