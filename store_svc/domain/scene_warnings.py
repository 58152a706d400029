"""What is probably wrong with the zones and lines of a camera, as recent detections show. Pure."""

from collections.abc import Iterable, Sequence

from mesh.scene.doubts import LEAST_TRACKS, MOST_CROSSING, MOST_PUBLIC_AREA, TALL, is_tall, is_too_large
from mesh.scene.geometry import foot_point
from mesh.scene.links import SeenObject, link
from mesh.scene.places import SceneLine, SceneZone, ZoneKind
from mesh.scene.tracks import crossings_of

PERSON = "person"


def needs_detections(zones: Sequence[SceneZone], lines: Sequence[SceneLine]) -> bool:
    """Whether `warnings_of` looks at any event."""
    return bool(lines) or any(zone.kind is ZoneKind.PUBLIC for zone in zones)


def warnings_of(
    zones: Sequence[SceneZone], lines: Sequence[SceneLine], events: Iterable[Sequence[SeenObject]]
) -> list[str]:
    """One sentence for each zone and line in doubt. `events` are the objects of each recent event."""
    listed = list(events)
    people = [seen for event in listed for seen in event if seen.label == PERSON and is_tall(seen.box)]
    warnings = [fault for zone in zones if (fault := _fault_of_zone(zone, people))]
    if lines:
        tracks = [
            [event[index] for index in indexes]
            for event in listed
            for indexes in link(event)
            if len(indexes) > 1
        ]
        warnings += [fault for line in lines if (fault := _fault_of_line(line, tracks))]
    return warnings


def _fault_of_zone(zone: SceneZone, tall_people: Sequence[SeenObject]) -> str | None:
    if is_too_large(zone):
        return (
            f"Zone {zone.id!r} is public and covers {zone.area.share:.0%} of the picture. Above "
            f"{MOST_PUBLIC_AREA:.0%} it is not believed: who is in it gets no relief."
        )
    if zone.kind is ZoneKind.PUBLIC and any(zone.area.contains(foot_point(seen.box)) for seen in tall_people):
        return (
            f"Zone {zone.id!r} is public, but people stood in it who are taller than {TALL:.0%} of the "
            "picture: they are close to the camera. Such an event gets no relief in this zone."
        )
    return None


def _fault_of_line(line: SceneLine, tracks: Sequence[Sequence[SeenObject]]) -> str | None:
    crossing = sum(bool(crossings_of(track, [line])) for track in tracks)
    if len(tracks) < LEAST_TRACKS or crossing <= MOST_CROSSING * len(tracks):
        return None
    return (
        f"Line {line.id!r} was crossed by {crossing} of {len(tracks)} things that moved. A line should lie "
        "where few go: at a gate, not along the pavement."
    )
