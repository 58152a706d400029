"""Evidence that has something of everything."""

from google.protobuf.timestamp_pb2 import Timestamp

from lares.reason.v1 import evidence_pb2 as pb
from lares.scene.v1 import scene_pb2
from tests.unit.gateway.fake_store import uuid

TRACK = uuid("track")


def seconds(number: float) -> Timestamp:
    return Timestamp(seconds=int(number), nanos=int(number % 1 * 1e9))


DOOR = scene_pb2.Zone(
    id="door",
    name="Door",
    kind=scene_pb2.ZONE_KIND_ENTRY,
    polygon=[scene_pb2.Point(x=x) for x in (0, 0.5, 1)],
)
FULL_EVIDENCE = pb.Evidence(
    digest="ab" * 32,
    camera_name="Front",
    time_zone="Europe/Berlin",
    mode="away",
    light=scene_pb2.LIGHT_DARK,
    ground=scene_pb2.GROUND_DRIVE,
    zones=[DOOR],
    lines=[scene_pb2.Line(id="gate", start=scene_pb2.Point(x=0.25), end=scene_pb2.Point(y=1))],
    detections=[pb.EvidenceDetection(id=id) for id in ("a", "b", "c")],
    tracks=[
        scene_pb2.Track(
            id=TRACK,
            label="person",
            detection_indexes=[2, 0],
            identity=scene_pb2.Identity(),
            visits=[
                scene_pb2.Visit(
                    zone_id="door", kind=DOOR.kind, start_time=seconds(10), end_time=seconds(12.5)
                ),
                scene_pb2.Visit(
                    zone_id="ground",
                    kind=scene_pb2.ZONE_KIND_PUBLIC,
                    start_time=seconds(13),
                    end_time=seconds(13),
                ),
            ],
            crossings=[scene_pb2.Crossing(line_id="gate", direction=1, time=seconds(11))],  # type: ignore[arg-type]
        )
    ],
    people=[pb.Person(id="ada", name="Ada", relation=pb.RELATION_FAMILY)],
    present_person_ids=["ada"],
    expected=[pb.ExpectedVisit(id="v", name="Cleaner", labels=["person"], zone_ids=["door"])],
    site_notes=["A dog lives here."],
    changes=[
        pb.Change(thing="car", kind=pb.CHANGE_KIND_WENT, time=seconds(14), zone_id="door"),
        pb.Change(
            thing="truck",
            kind=pb.CHANGE_KIND_CAME,
            time=seconds(15),
            zone_id="ground",
            zone_kind=scene_pb2.ZONE_KIND_PUBLIC,
        ),
        pb.Change(thing="boat", kind=pb.CHANGE_KIND_CAME, time=seconds(16)),
    ],
    past=[
        pb.PastEvent(
            event_id="e",
            started_at=seconds(1),
            ended_at=seconds(2),
            labels=["car"],
            detection_count=3,
            inward_crossings=1,
            stays=[pb.Stay(zone_id="door", label="car", seconds=1.1, kind=DOOR.kind)],
        )
    ],
    habits=[pb.Habit(label="person", zone_id="door", behaviour=pb.BEHAVIOUR_PASSING, days_seen=9, days=21)],
    lost_identities=[scene_pb2.Identity(person_id="bob")],
    left_out=["past"],
)
