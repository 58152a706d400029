"""Maps the labelled events onto Evidence, for three kinds of evidence.

- `fresh`: a new home. The detections, the events of the hour before, and what a camera looks at (`ground`).
Nothing
  else is configured.
- `own`: what this release produces by itself. Zones, lines, mode, habits and past events; tracks recomputed
from the
  boxes; nobody identified, no notes, and no changes but those of vehicles.
- `all`: the set's whole context.

The set is made by hand, so this fails on a field that it does not know: what the set learns to say must not
be lost.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from google.protobuf.json_format import ParseDict

from lares.reason.v1 import evidence_pb2
from lares.scene.v1 import scene_pb2
from mesh.scene.tracks import VEHICLES

EvidenceKind = Literal["fresh", "own", "all"]
Json = Mapping[str, Any]

CONTEXT = {
    "local_start", "light", "mode", "zones", "lines", "tracks", "people", "changes", "past", "habits",
    "site_notes",
}  # fmt: skip
TRACK = {"track", "label", "detections", "who", "stationary", "visits", "crossings"}
PAST = {"event_id", "started_at", "labels", "same", "changes"}
HABIT = {"what", "days", "between", "seen", "of"}
CHANGE = {"what", "change", "at"}
WHO = {"status", "person"}

# What people write of a place beside the zones, and the zone that it is in.
PLACES = {"kerb": "street"}


def evidence_message(item: Json, kind: EvidenceKind) -> evidence_pb2.Evidence:
    """Raises ValueError for a field that is not known. A home's own events, which `lares judge --export` has
    written, have their evidence as it was, of every kind."""
    context = item["context"]
    if not context:
        return ParseDict(item["evidence"], evidence_pb2.Evidence())
    _only(context, CONTEXT)
    evidence = ParseDict(item["evidence"], evidence_pb2.Evidence())
    standing = {track["track"] for track in context["tracks"] if track["stationary"]}
    for past in context["past"]:
        _only(past, PAST)
        message = evidence.past.add(event_id=past["event_id"], labels=past["labels"])
        message.started_at.FromJsonString(past["started_at"])
        message.stationary_matches = len(standing.intersection(past["same"]))
    if kind == "fresh":
        evidence.ground = _ground(context["zones"])
        return evidence
    evidence.mode = context["mode"]
    for zone in context["zones"]:
        evidence.zones.append(_zone(zone))
    for line in context["lines"]:
        (start_x, start_y), (end_x, end_y) = line["from"], line["to"]
        evidence.lines.add(
            id=_slug(line["line"]),
            name=line["line"],
            start=scene_pb2.Point(x=start_x, y=start_y),
            end=scene_pb2.Point(x=end_x, y=end_y),
        )
    for habit in context["habits"]:
        evidence.habits.append(_habit(habit))
    places = {detection["id"]: index for index, detection in enumerate(item["evidence"]["detections"])}
    evidence.changes.extend(
        _change(change) for change in context["changes"] if kind == "all" or change["what"] in VEHICLES
    )
    if kind == "all":
        evidence.light = scene_pb2.Light.Value(f"LIGHT_{context['light'].upper()}")
        evidence.site_notes.extend(note["text"] for note in context["site_notes"])
        for person in context["people"]:
            relation = evidence_pb2.Relation.Value(f"RELATION_{person['relation'].upper()}")
            evidence.people.add(id=person["person"], name=person["name"], relation=relation)
        for track in context["tracks"]:
            evidence.tracks.append(_track(track, places))
    return evidence


def _track(track: Json, places: Mapping[str, int]) -> scene_pb2.Track:
    _only(track, TRACK)
    _only(track["who"], WHO)
    message = scene_pb2.Track(
        id=track["track"],
        label=track["label"],
        detection_indexes=[places[detection] for detection in track["detections"]],
        stationary=track["stationary"] and track["label"] in VEHICLES,
    )
    if track["who"]["status"] != "unseen":
        message.identity.person_id = track["who"].get("person", "")
        message.identity.SetInParent()
    for visit in track["visits"]:
        added = message.visits.add(zone_id=_slug(visit["zone"]))
        added.start_time.FromJsonString(visit["from"])
        added.end_time.FromJsonString(visit["until"])
    for crossing in track["crossings"]:
        direction = {"in": scene_pb2.DIRECTION_INWARDS, "out": scene_pb2.DIRECTION_OUTWARDS}[
            crossing["direction"]
        ]
        crossed = message.crossings.add(line_id=_slug(crossing["line"]), direction=direction)
        crossed.time.FromJsonString(crossing["at"])
    return message


def _zone(zone: Json) -> scene_pb2.Zone:
    return scene_pb2.Zone(
        id=_slug(zone["zone"]),
        name=zone["zone"],
        kind=scene_pb2.ZoneKind.Value(f"ZONE_KIND_{zone['kind'].upper()}"),
        polygon=[scene_pb2.Point(x=x, y=y) for x, y in zone["polygon"]],
    )


def _habit(habit: Json) -> evidence_pb2.Habit:
    """`truck at the kerb`: what is at a place stays there, what is elsewhere only passes."""
    _only(habit, HABIT)
    what, _, place = habit["what"].partition(" the ")
    label, _, where = what.partition(" ")
    return evidence_pb2.Habit(
        label=label,
        zone_id=_slug(PLACES.get(place, place)),
        behaviour=evidence_pb2.BEHAVIOUR_STAYING if where == "at" else evidence_pb2.BEHAVIOUR_PASSING,
        days_seen=habit["seen"],
        days=habit["of"],
    )


def _change(change: Json) -> evidence_pb2.Change:
    _only(change, CHANGE)
    kinds = {"left": evidence_pb2.CHANGE_KIND_CAME, "taken": evidence_pb2.CHANGE_KIND_WENT}
    message = evidence_pb2.Change(thing=change["what"].split()[0], kind=kinds[change["change"]])
    message.time.FromJsonString(change["at"])
    return message


def _ground(zones: Sequence[Json]) -> scene_pb2.Ground.ValueType:
    """What the people of the house would answer, who know what their camera shows."""
    kinds, names = {zone["kind"] for zone in zones}, {zone["zone"] for zone in zones}
    if "inside" in kinds:
        return scene_pb2.GROUND_INSIDE
    if {"entry", "approach"} <= kinds:
        return scene_pb2.GROUND_FRONT_DOOR
    if names & {"drive", "driveway", "garage", "carport"}:
        return scene_pb2.GROUND_DRIVE
    if kinds & {"private", "water", "window", "entry"}:
        return scene_pb2.GROUND_GARDEN
    return scene_pb2.GROUND_STREET_SIDE if "public" in kinds else scene_pb2.GROUND_UNSPECIFIED


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _only(found: Json, known: set[str]) -> None:
    if unknown := {*found} - known:
        raise ValueError(f"the labelled events have fields that are not mapped: {sorted(unknown)}")
