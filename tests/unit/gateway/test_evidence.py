"""What an event is assessed from, over GraphQL."""

from lares.reason.v1 import evidence_pb2 as pb
from lares.scene.v1 import scene_pb2
from mesh.problems import Conflict, Unavailable
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import uuid
from tests.unit.gateway.full_evidence import FULL_EVIDENCE, TRACK

EVIDENCE = """query($id: ID!) { event(id: $id) { evidence {
  digest cameraName timeZone mode light ground leftOut presentPersonIds lostIdentities { personId }
  zones { id kind polygon { x y } } lines { id start { x } }
  tracks { id label stationary detectionIds identity { personId }
    visits { zone { id name kind } startedAt endedAt seconds } crossings { lineId direction at } }
  past { id startedAt endedAt labels detectionCount inwardCrossings stays { zoneId kind label seconds } }
  habits { label zoneId behaviour daysSeen days } people { id name relation } siteNotes
  expectedVisits { id name labels zoneIds } changes { thing kind at zone { id name kind } } } } }"""


async def test_everything_of_it(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.evidence[event.id] = FULL_EVIDENCE
    evidence = (await gateway.ask(EVIDENCE, id=event.id))["event"]["evidence"]
    (track,) = evidence["tracks"]
    assert (track["id"], track["detectionIds"], track["identity"]) == (TRACK, ["c", "a"], {"personId": None})
    assert track["visits"] == [
        {
            "zone": {"id": "door", "name": "Door", "kind": "ENTRY"},
            "startedAt": "1970-01-01T00:00:10+00:00",
            "endedAt": "1970-01-01T00:00:12.500000+00:00",
            "seconds": 2.5,
        },
        {
            "zone": {"id": "ground", "name": "", "kind": "PUBLIC"},
            "startedAt": "1970-01-01T00:00:13+00:00",
            "endedAt": "1970-01-01T00:00:13+00:00",
            "seconds": 0,
        },
    ]
    assert track["crossings"] == [
        {"lineId": "gate", "direction": "INWARDS", "at": "1970-01-01T00:00:11+00:00"}
    ]
    assert evidence["past"][0]["stays"] == [
        {"zoneId": "door", "kind": "ENTRY", "label": "car", "seconds": 1.1}
    ]
    assert (evidence["mode"], evidence["light"], evidence["ground"]) == ("away", "DARK", "DRIVE")
    assert evidence["habits"] == [
        {"label": "person", "zoneId": "door", "behaviour": "PASSING", "daysSeen": 9, "days": 21}
    ]
    assert evidence["lostIdentities"] == [{"personId": "bob"}]
    assert (evidence["leftOut"], evidence["presentPersonIds"]) == (["past"], ["ada"])
    assert evidence["people"] == [{"id": "ada", "name": "Ada", "relation": "FAMILY"}]
    assert evidence["expectedVisits"] == [
        {"id": "v", "name": "Cleaner", "labels": ["person"], "zoneIds": ["door"]}
    ]
    assert evidence["siteNotes"] == ["A dog lives here."]
    assert [(one["thing"], one["kind"], one["at"], one["zone"]) for one in evidence["changes"]] == [
        ("car", "WENT", "1970-01-01T00:00:14+00:00", {"id": "door", "name": "Door", "kind": "ENTRY"}),
        ("truck", "CAME", "1970-01-01T00:00:15+00:00", {"id": "ground", "name": "", "kind": "PUBLIC"}),
        ("boat", "CAME", "1970-01-01T00:00:16+00:00", None),
    ]


async def test_of_an_earlier_version(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    evidence = (await gateway.ask(EVIDENCE, id=event.id))["event"]["evidence"]
    assert (evidence["tracks"], evidence["zones"], evidence["past"]) == ([], [], [])
    assert (evidence["changes"], evidence["people"], evidence["expectedVisits"]) == ([], [], [])
    assert (evidence["mode"], evidence["light"], evidence["ground"]) == (None, "UNSPECIFIED", "UNSPECIFIED")


async def test_is_read_once_for_each_event_and_only_if_it_is_selected(gateway: Gateway) -> None:
    for n in range(3):
        gateway.store.add_event(n)
    await gateway.ask("{ events { edges { node { id } } } }")
    assert gateway.store.calls["GetEvidence"] == 0
    await gateway.ask("{ events { edges { node { a: evidence { mode } b: evidence { light } } } } }")
    assert gateway.store.calls["GetEvidence"] == 3


async def test_what_is_damaged_is_null_and_an_outage_an_error(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.failing["GetEvidence"] = Conflict("no", "EVIDENCE_DIFFERS")
    assert (await gateway.ask(EVIDENCE, id=event.id))["event"] == {"evidence": None}
    gateway.store.failing["GetEvidence"] = Unavailable("no", "DATABASE_UNAVAILABLE")
    response = await gateway.post(EVIDENCE, id=event.id)
    assert response["errors"][0]["path"] == ["event", "evidence"]


async def test_a_page_of_events_may_have_all_their_evidence(gateway: Gateway) -> None:
    """Its cost counts a call for each event."""
    inner = EVIDENCE[EVIDENCE.index("evidence {") :].rsplit("}", 2)[0]
    page = "{ events(first: %d) { edges { node { " + inner + " } } } }"
    gateway.store.add_event(1)
    await gateway.ask(page % 20)
    response = await gateway.post(page % 200)
    assert response["errors"][0]["extensions"]["code"] == "INVALID_ARGUMENT"


IDENTIFY = """mutation($input: IdentifyTrackInput!) { identifyTrack(input: $input) {
  event { evidence { tracks { identity { personId } } } } } }"""


async def test_somebody_says_who_a_track_is(gateway: Gateway) -> None:
    event, track, ada = gateway.store.add_event(1), uuid("track"), uuid("ada")
    tracks = [scene_pb2.Track(id=track, label="person", detection_indexes=[0])]
    gateway.store.evidence[event.id] = pb.Evidence(detections=FULL_EVIDENCE.detections, tracks=tracks)
    for person in (ada, None):
        said = {"eventId": event.id, "trackId": track, "personId": person}
        answer = (await gateway.ask(IDENTIFY, input=said))["identifyTrack"]["event"]["evidence"]
        assert answer == {"tracks": [{"identity": {"personId": person}}]}
    error = await gateway.error(IDENTIFY, input={"eventId": event.id, "trackId": uuid("other")})
    assert error["extensions"]["reason"] == "TRACK_NOT_FOUND"
