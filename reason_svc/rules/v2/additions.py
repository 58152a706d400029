"""What makes an event matter more: a function for each rule, which returns its factor, or None. Pure."""

from collections.abc import Callable, Sequence

from mesh.scene.places import ZoneKind
from mesh.scene.tracks import VEHICLES, Direction
from reason_svc.evidence import ChangeKind, EvidenceDetection
from reason_svc.reasoner import ScoreFactor
from reason_svc.rules.v2 import weights
from reason_svc.rules.v2.floors import seconds_alone_in_water
from reason_svc.rules.v2.subject import LIVESTOCK, EventScene, Subject
from reason_svc.rules.v2.texts import PLACES, a_thing, factor, name_of, seconds_text

CLOSE_HEIGHT = 0.85
LINGERING_SECONDS, WAITING_SECONDS = 30.0, 60.0
# Of the events in the hour before, that many mean that somebody was there for most of it.
ALL_HOUR_EVENTS = 12
VEHICLE_RETURNS_EVENTS = 3

Rule = Callable[[Subject, EventScene], ScoreFactor | None]


def seen(subject: Subject, _: EventScene) -> ScoreFactor | None:
    points = weights.CLASS_POINTS.get(subject.label, weights.OTHER_CLASS)
    return factor("class", points, f"{a_thing(subject.label)} was seen.", subject.detections[:1])


def stays(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """Minutes across the events of the hour, by place and label; a claimed identity does not shorten them."""
    if not subject.is_person or subject.is_known:
        return None
    points, where, before = 0.0, [], 0.0
    for kind, stay in weights.STAY.items():
        if kind not in subject.kinds:
            continue
        past = scene.past_seconds(kind, subject.label)
        seconds = subject.seconds[kind] + past
        before += past
        by_night = scene.dark or (kind is ZoneKind.INSIDE and scene.away)
        gained = min(stay.most, seconds * (stay.by_night if by_night else stay.by_day))
        points += gained
        if gained >= 1:
            where.append(f"{seconds_text(seconds)} {PLACES[kind]}")
    if not where:
        return None
    text = f"A person stayed {' and '.join(where)}{', counting the hour before' if before else ''}."
    return factor("stay", round(min(weights.MOST_STAY, points)), text, subject.detections)


def at_window_or_inside(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.is_person or subject.is_known or not subject.was_in(ZoneKind.WINDOW, ZoneKind.INSIDE):
        return None
    where = "inside the house" if subject.was_in(ZoneKind.INSIDE) else "at a window"
    return factor("place", weights.AT_WINDOW_OR_INSIDE, f"A person was {where}.", subject.detections)


def inwards(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not subject.is_person or subject.is_known or not subject.came_inwards:
        return None
    points = weights.INWARDS_BY_NIGHT if scene.dark else weights.INWARDS_BY_DAY
    text = "A person came from outside onto the ground of the house."
    return factor("inwards", points, text, subject.detections)


def while_away(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """Also in a place of which nobody has said what it is."""
    if not scene.away or not subject.is_person or subject.is_known:
        return None
    if subject.in_the_open:
        return None
    counted = [ZoneKind.WINDOW, ZoneKind.PRIVATE, ZoneKind.INSIDE, *([ZoneKind.ENTRY] if scene.dark else [])]
    seconds = sum(subject.seconds[kind] for kind in counted)
    points = round(min(weights.MOST_AWAY, weights.AWAY + weights.AWAY_PER_SECOND * seconds))
    return factor("away", points, "Nobody is at home.", subject.detections)


def dark(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not scene.dark or not subject.is_person or subject.is_known:
        return None
    points = weights.DARK_IN_PUBLIC if subject.in_public_only and subject.in_the_open else weights.DARK
    return factor("dark", points, "It was dark.", subject.detections[:1])


def doubtful_place(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.is_person or not subject.in_doubted_zone:
        return None
    text = "A public zone cannot be right, so nobody knows where this was, and nothing speaks for it."
    return factor("doubt", weights.DOUBTFUL_PLACE, text, subject.detections[:1])


def in_the_water(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if seconds_alone_in_water(subject, scene) is None:
        return None
    return factor("water", weights.IN_THE_WATER, "Somebody small was in the water.", subject.detections)


def seems_to_lie(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.seems_to_lie or subject.lying():
        return None
    return factor("lying", weights.SEEMS_TO_LIE, "A person seems to lie.", subject.detections)


def close(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not scene.dark or not subject.is_person or subject.is_known or subject.height <= CLOSE_HEIGHT:
        return None
    text = "A person came right up to the camera in the dark."
    return factor("close", weights.CLOSE, text, subject.detections)


def lingers(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not subject.is_person or subject.is_known or not scene.dead_of_night or not subject.in_public_only:
        return None
    if subject.duration < LINGERING_SECONDS:
        return None
    text = f"A person stayed for {seconds_text(subject.duration)} in the dead of night."
    return factor("lingers", weights.LINGERS_BY_NIGHT, text, subject.detections)


def returns(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """By night: people on the ground, people who stay before the house for an hour, vehicles that circle."""
    past = scene.past_events_with(subject.label)
    if not scene.dark or not past or subject.is_known:
        return None
    if subject.is_person and not subject.in_public_only and subject.kinds:
        text = f"People were here in {past} events of the hour before, too."
        return factor("returning", weights.RETURNS, text, subject.detections[:1])
    if subject.is_person and past >= ALL_HOUR_EVENTS:
        text = "People were here for most of the hour before, too."
        return factor("returning", weights.ALL_HOUR, text, subject.detections[:1])
    if subject.is_vehicle and not subject.stands and past >= VEHICLE_RETURNS_EVENTS:
        text = f"{a_thing(subject.label)} came by in {past} events of the hour before, too."
        return factor("returning", weights.VEHICLE_RETURNS, text, subject.detections[:1])
    return None


def several(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not subject.is_person or subject.is_known or not (scene.dark or scene.away):
        return None
    others = [
        other
        for other in scene.people
        if subject.is_seen_beside(other) and other.on_the_ground and not other.is_known and not other.is_faint
    ]
    if not others:
        return None
    points = min(weights.MOST_OTHERS, weights.EACH_OTHER * len(others))
    text = f"{len(others) + 1} people were there."
    return factor("several", points, text, [other.detections[0] for other in others])


def came_by_vehicle(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not scene.dark or not subject.is_person or any(person.is_known for person in scene.people):
        return None
    for other in scene.subjects:
        if other.is_vehicle and _crossed_inwards(other):
            text = f"{a_thing(other.label)} came onto the ground with somebody in the dark."
            return factor("vehicle", weights.CAME_BY_VEHICLE, text, other.detections[:1])
    return None


def unwelcome(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not subject.is_unwelcome:
        return None
    return factor("unwelcome", weights.UNWELCOME, "This person must not come here.", subject.detections)


def lies(subject: Subject, _: EventScene) -> ScoreFactor | None:
    if not (lying := subject.lying()):
        return None
    return factor("lying", weights.LYING, "A person lies on the ground.", lying)


def dog_among_livestock(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    herd = [other for other in scene.subjects if other.label in LIVESTOCK]
    if subject.label != "dog" or not herd or any(person.is_known for person in scene.people):
        return None
    text = f"A dog is among {'sheep' if herd[0].label == 'sheep' else 'livestock'}."
    return factor("combination", weights.DOG_AMONG_LIVESTOCK, text, subject.detections)


def bear_by_night(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if subject.label != "bear" or not scene.dark:
        return None
    return factor("dark", weights.BEAR_BY_NIGHT, "It was dark.", subject.detections[:1])


def vehicle_on_the_ground(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    arrived = _crossed_inwards(subject) or not subject.stands
    if not subject.is_vehicle or not subject.was_in(ZoneKind.PRIVATE) or not arrived:
        return None
    points = weights.VEHICLE_ON_THE_GROUND + (weights.VEHICLE_BY_NIGHT if scene.dead_of_night else 0)
    when = " in the dead of night" if scene.dead_of_night else ""
    text = f"{a_thing(subject.label)} came onto the ground of the house{when}."
    return factor("arrived", points, text, subject.detections)


def vehicle_waits(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    if not subject.stands or subject.stood_before or subject.duration < WAITING_SECONDS:
        return None
    if not scene.dead_of_night or not scene.people or not subject.in_public_only:
        return None
    text = f"{a_thing(subject.label)} waits with somebody beside it in the dead of night."
    return factor("waits", weights.VEHICLE_WAITS_BY_NIGHT, text, subject.detections)


def thing_taken(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """A thing that is no vehicle goes while somebody is there whom nobody has named."""
    if not subject.is_person or subject.is_known:
        return None
    if not any(change.thing not in VEHICLES for change in scene.gone):
        return None
    return factor("taken", weights.TAKEN, "A thing is gone that was here.", subject.detections)


def vehicle_went(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """A vehicle that stood on the ground of the house goes, by itself or with somebody."""
    if subject.is_known or not (subject.is_person or subject.is_vehicle):
        return None
    return _went(scene, subject.detections)


def vehicle_came_to_stay(subject: Subject, scene: EventScene) -> ScoreFactor | None:
    """A vehicle comes by stealth and stays: what only turns in the drive goes again."""
    came = next((change.thing for change in scene.come if change.thing in VEHICLES), None)
    if came is None or not subject.is_vehicle or not _by_stealth(scene):
        return None
    text = f"{a_thing(came)} came and stays here."
    return factor("came", weights.VEHICLE_CAME_BY_STEALTH, text, subject.detections)


def only_changes(scene: EventScene) -> list[ScoreFactor]:
    """The factors of an event in which nothing is seen: something came or went between two photos."""
    first = scene.main_change
    is_vehicle = first.thing in VEHICLES
    points = weights.CLASS_POINTS[first.thing] if is_vehicle else weights.OTHER_CLASS
    verb = "stood here" if first.kind is ChangeKind.WENT else "stands here now"
    factors = [factor("class", points, f"{a_thing(name_of(first))} {verb}.", ())]
    if not scene.gone and not scene.come:
        factors.append(factor("public", -points, "It was on public ground.", ()))
    elif went := _went(scene, ()):
        factors.append(went)
    return factors


def vehicle_gone(scene: EventScene) -> str | None:
    """The label of a vehicle that has left the ground of the house."""
    return next((change.thing for change in scene.gone if change.thing in VEHICLES), None)


def _went(scene: EventScene, detections: Sequence[EvidenceDetection]) -> ScoreFactor | None:
    if (gone := vehicle_gone(scene)) is None:
        return None
    points = weights.VEHICLE_WENT_BY_STEALTH if _by_stealth(scene) else weights.VEHICLE_WENT
    return factor("went", points, f"{a_thing(gone)} is gone that stood here.", detections)


def _by_stealth(scene: EventScene) -> bool:
    return scene.dead_of_night or scene.away


def _crossed_inwards(subject: Subject) -> bool:
    """Not the box of a vehicle that stands on the line."""
    return not subject.stood_before and any(
        one.direction is Direction.INWARDS for one in subject.track.scene.crossings
    )


ADDITIONS: tuple[Rule, ...] = (
    seen, stays, at_window_or_inside, inwards, while_away, dark, doubtful_place, close, lingers, returns,
    several, came_by_vehicle, unwelcome, lies, seems_to_lie, in_the_water, dog_among_livestock,
    bear_by_night, vehicle_on_the_ground, vehicle_waits, thing_taken, vehicle_went,
    vehicle_came_to_stay,
)  # fmt: skip
