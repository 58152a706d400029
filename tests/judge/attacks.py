"""Changes of the evidence of an incident that must not hide it: one thing is changed, the rest stays.

Given tracks keep who they are; what they say of places and frames follows the change.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from zoneinfo import ZoneInfo

from lares.reason.v1.evidence_pb2 import (
    BEHAVIOUR_PASSING,
    BEHAVIOUR_STAYING,
    RELATION_RESIDENT,
    Evidence,
)
from lares.scene.v1.scene_pb2 import LIGHT_UNSPECIFIED, ZONE_KIND_PUBLIC, Point, Track
from mesh.scene.places import GROUND_ID
from tests.judge.figures import Scores, points
from tests.judge.labelled import HIGH, MEDIUM, LabelledEvent

Attack = Callable[[Evidence], Evidence]

FAINT_SCORE = 0.58
NOON = 12
MOST_HABITS = 64


def always_a_habit(evidence: Evidence) -> Evidence:
    """Everything that is seen is usual at this hour, wherever it is and whatever it does."""
    attacked = _copy(evidence)
    del attacked.habits[:]
    places = [*(zone.id for zone in attacked.zones), GROUND_ID]
    for label in sorted({found.label for found in attacked.detections}):
        for zone_id in places:
            for behaviour in (BEHAVIOUR_PASSING, BEHAVIOUR_STAYING):
                if len(attacked.habits) < MOST_HABITS:
                    attacked.habits.add(
                        label=label, zone_id=zone_id, behaviour=behaviour, days_seen=28, days=28
                    )
    return attacked


def expected_visit(evidence: Evidence) -> Evidence:
    attacked = _copy(evidence)
    labels = sorted({found.label for found in attacked.detections})
    attacked.expected.add(id="visit", name="a visit", labels=labels)
    return attacked


def resident_is_present(evidence: Evidence) -> Evidence:
    attacked = _copy(evidence)
    attacked.people.add(id="resident", name="Robin", relation=RELATION_RESIDENT)
    attacked.present_person_ids.append("resident")
    return attacked


def mode_home(evidence: Evidence) -> Evidence:
    attacked = _copy(evidence)
    attacked.mode = "home"
    return attacked


def mode_unset(evidence: Evidence) -> Evidence:
    attacked = _copy(evidence)
    attacked.mode = ""
    return attacked


def no_zones(evidence: Evidence) -> Evidence:
    attacked = _copy(evidence)
    del attacked.zones[:]
    for track in attacked.tracks:
        del track.visits[:]
    return attacked


def everything_public(evidence: Evidence) -> Evidence:
    attacked = no_zones(evidence)
    corners = [Point(x=x, y=y) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    attacked.zones.add(id="all", name="all", kind=ZONE_KIND_PUBLIC, polygon=corners)
    for track in attacked.tracks:
        times = [attacked.detections[index].captured_at for index in track.detection_indexes]
        track.visits.add(zone_id="all", start_time=times[0], end_time=times[-1])
    return attacked


def two_faint_frames(evidence: Evidence) -> Evidence:
    """What is left are two frames in the middle, of low certainty."""
    times = _times(evidence)
    middle = max(0, len(times) // 2 - 1)
    attacked = _only(evidence, times[middle : middle + 2])
    for found in attacked.detections:
        found.score = FAINT_SCORE
    return attacked


def faint(evidence: Evidence) -> Evidence:
    """All frames, of low certainty."""
    attacked = _copy(evidence)
    for found in attacked.detections:
        found.score = FAINT_SCORE
    return attacked


def every_second_frame(evidence: Evidence) -> Evidence:
    return _only(evidence, _times(evidence)[::2])


def every_third_frame(evidence: Evidence) -> Evidence:
    return _only(evidence, _times(evidence)[::3])


def at_the_habits_hour(evidence: Evidence) -> Evidence:
    """At noon of the same day, when everything that is seen is usual."""
    attacked = always_a_habit(evidence)
    zone = ZoneInfo(attacked.time_zone or "UTC")
    started = min(found.captured_at.ToDatetime(tzinfo=zone) for found in attacked.detections)
    noon = started.replace(hour=NOON, minute=0, second=0, microsecond=0)
    _move(attacked, noon - started)
    attacked.light = LIGHT_UNSPECIFIED
    return attacked


# By those of the first kind no incident of the level HIGH or CRITICAL may become LOW. By the others some do,
# because they take away what makes an incident one: the counts are printed and bounded.
NEVER: Sequence[Attack] = (
    always_a_habit, expected_visit, resident_is_present, faint, everything_public,
)  # fmt: skip
BOUNDED: Sequence[Attack] = (
    mode_home, mode_unset, no_zones, two_faint_frames, every_second_frame, every_third_frame,
    at_the_habits_hour,
)  # fmt: skip


def became_low(incidents: Sequence[LabelledEvent], scores: Scores, attacked: Scores) -> list[LabelledEvent]:
    """The incidents of the level HIGH or CRITICAL that were seen, and are LOW by the change."""
    return [
        event
        for event in incidents
        if event.floor >= HIGH and points(event, scores) >= MEDIUM and points(event, attacked) < MEDIUM
    ]


def _copy(evidence: Evidence) -> Evidence:
    copy = Evidence()
    copy.CopyFrom(evidence)
    return copy


def _times(evidence: Evidence) -> list[int]:
    return sorted({found.captured_at.ToNanoseconds() for found in evidence.detections})


def _only(evidence: Evidence, times: Sequence[int]) -> Evidence:
    """Only the frames of these times."""
    attacked = _copy(evidence)
    kept = [
        index for index, found in enumerate(evidence.detections) if found.captured_at.ToNanoseconds() in times
    ]
    del attacked.detections[:], attacked.tracks[:]
    attacked.detections.extend(evidence.detections[index] for index in kept)
    places = {before: now for now, before in enumerate(kept)}
    for track in evidence.tracks:
        if indexes := [places[index] for index in track.detection_indexes if index in places]:
            _add_shortened(attacked, track, indexes)
    return attacked


def _add_shortened(evidence: Evidence, track: Track, indexes: Sequence[int]) -> None:
    """Adds a track with these detections: what is before the first or after the last is not seen."""
    first, last = (evidence.detections[index].captured_at for index in (indexes[0], indexes[-1]))
    begin, end = first.ToNanoseconds(), last.ToNanoseconds()
    added = evidence.tracks.add()
    added.CopyFrom(track)
    added.detection_indexes[:] = indexes
    del added.visits[:], added.crossings[:]
    for visit in track.visits:
        if visit.end_time.ToNanoseconds() >= begin and visit.start_time.ToNanoseconds() <= end:
            shortened = added.visits.add()
            shortened.CopyFrom(visit)
            if visit.start_time.ToNanoseconds() < begin:
                shortened.start_time.CopyFrom(first)
            if visit.end_time.ToNanoseconds() > end:
                shortened.end_time.CopyFrom(last)
    added.crossings.extend(one for one in track.crossings if begin <= one.time.ToNanoseconds() <= end)


def _move(evidence: Evidence, by: timedelta) -> None:
    stamps = [evidence.started_at, evidence.ended_at]
    stamps += [found.captured_at for found in evidence.detections]
    stamps += [past.started_at for past in (*evidence.history, *evidence.past)]
    stamps += [past.ended_at for past in evidence.past if past.HasField("ended_at")]
    stamps += [change.time for change in evidence.changes]
    for track in evidence.tracks:
        stamps += [time for visit in track.visits for time in (visit.start_time, visit.end_time)]
        stamps += [crossing.time for crossing in track.crossings]
    for stamp in stamps:
        stamp.FromDatetime(stamp.ToDatetime() + by)
