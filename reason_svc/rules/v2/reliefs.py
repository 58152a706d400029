"""What speaks for an event's being harmless: a function for each rule, which returns its factor, or None.
Pure."""

from collections.abc import Callable

from mesh.scene.places import ZoneKind
from reason_svc.evidence import Behaviour, Relation
from reason_svc.reasoner import ScoreFactor
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.additions import returns, vehicle_waits
from reason_svc.rules.v2.subject import OPEN_TO_VISITORS, PERSON, EventScene, Subject
from reason_svc.rules.v2.texts import a_thing, factor

BRIEF_SECONDS = 60.0
# A habit needs this many different days.
HABIT_DAYS = 8


def known(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.is_known:
        return None
    text = "Somebody has said who this is, and the person is welcome."
    return factor("known", -weights.KNOWN, text, subject.detections[:1])


def public_ground(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """Not for a vehicle that returns or waits by night."""
    if not subject.in_public_only or not (subject.is_person or subject.is_vehicle):
        return None
    if subject.is_vehicle and (returns(subject, scene) or vehicle_waits(subject, scene)):
        return None
    points = weights.PUBLIC if subject.is_person else weights.PUBLIC_VEHICLE
    text = f"{a_thing(subject.label)} stayed on public ground."
    return factor("public", -points, text, subject.detections[:1])


def passing(subject: Subject, _: EventScene) -> ScoreFactor | None:
    """Where nobody has said what the places are, somebody who only passes is a passer-by."""
    if not subject.is_person or subject.kinds or not subject.passes:
        return None
    return factor("passing", -weights.PASSING, "A person only passed by.", subject.detections[:1])


def brief_by_day(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if scene.dark or scene.away or not subject.is_person or subject.duration >= BRIEF_SECONDS:
        return None
    if not {*subject.kinds} <= OPEN_TO_VISITORS or subject.in_public_only:
        return None
    return factor("brief", -weights.BRIEF_BY_DAY, "It was a short visit by day.", subject.detections[:1])


def at_home(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not scene.home or not subject.is_person:
        return None
    if (
        scene.dark
        and not subject.is_known
        and subject.was_in(ZoneKind.ENTRY, ZoneKind.WINDOW, ZoneKind.INSIDE)
    ):
        return None
    points = weights.AT_HOME_BY_NIGHT if scene.dark else weights.AT_HOME_BY_DAY
    return factor("at_home", -points, "The people of the house are at home.", subject.detections[:1])


def came_out(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if scene.away or not scene.evidence.mode or not subject.is_person or not subject.came_out:
        return None
    return factor("came_out", -weights.CAME_OUT, "A person came out of the door.", subject.detections[:1])


def faint(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.is_faint:
        return None
    points = weights.FAINT if subject.is_person else weights.FAINT_ANIMAL
    text = f"{a_thing(subject.label)} was seen faintly, and for a moment only."
    return factor("faint", -points, text, subject.detections[:1])


def stands_there(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not scene.stood_there(subject):
        return None
    text = f"{a_thing(subject.label)} stood there before."
    return factor("stands", -weights.STANDS_THERE, text, subject.detections[:1])


def habit(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """By day only."""
    if scene.dark or not subject.track.scene.visits:
        return None
    behaviour = Behaviour.STAYING if subject.stays else Behaviour.PASSING
    zones = {visit.place.zone_id for visit in subject.track.scene.visits}
    usual = [
        one
        for one in scene.evidence.habits
        if one.label == subject.label
        and one.behaviour is behaviour
        and one.zone_id in zones
        and one.days_seen >= HABIT_DAYS
    ]
    if not usual:
        return None
    text = f"This is usual at this hour: it was seen on {usual[0].days_seen} of {usual[0].days} days."
    return factor("habit", -weights.HABIT, text, subject.detections[:1])


def expected(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    zones = {visit.place.zone_id for visit in subject.track.scene.visits}
    for visit in scene.evidence.expected:
        is_there = not visit.zone_ids or (zones and zones <= {*visit.zone_ids})
        if is_there and subject.label in (visit.labels or (PERSON,)):
            return factor("expected", -weights.EXPECTED, "A visit was expected.", subject.detections[:1])
    return None


def present(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """For one person who came by an approach or a door: the first. Not because of somebody unwelcome."""
    arrived = [one for one in scene.people if one.came_as_visitors_do]
    welcome = any(person.relation is not Relation.UNWELCOME for person in scene.evidence.present)
    if not welcome or not arrived:
        return None
    first = min(arrived, key=lambda one: (one.started_at, one.track.id))
    if subject is not first:
        return None
    text = "Somebody of the house has just arrived."
    return factor("present", -weights.PRESENT, text, subject.detections[:1])


RELIEFS: tuple[Callable[[Subject, EventScene], ScoreFactor | None], ...] = (
    known, public_ground, passing, brief_by_day, at_home, came_out, faint, stands_there, habit, expected,
    present,
)  # fmt: skip
# The names of relief that is uncertain: what was expected of the event and not seen in it, or hardly seen.
UNCERTAIN = {"habit", "expected", "present", "faint"}
