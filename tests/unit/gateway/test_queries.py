"""The results of queries and mutations, and how many calls they cost."""

from typing import Any

import pytest

from gateway.schema.event import EventStatus
from gateway.schema.rejection import RejectionReason
from gateway.schema.severity import Severity
from lares.ingest.v1 import media_pb2
from lares.reason.v1 import assessment_pb2
from lares.store.v1 import event_pb2, media_service_pb2
from lares.store.v1.event_service_pb2 import EventFailure
from mesh.problems import NotFound
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import NOON, uuid

PAGE = """{ events(first: 50) { edges { cursor node { id status camera { id name }
  assessment { score severity factors { name } } lastFailure { reason }
  media { id url thumbnailUrl camera { name } }
  detections { edges { node { id label score box { xMin yMax } media { id } } } } } }
  pageInfo { hasNextPage endCursor } } }"""


async def test_a_page_of_events_costs_one_call_of_each_kind(gateway: Gateway) -> None:
    for index in range(60):
        gateway.store.add_event(
            index, camera=f"cam-{index % 7}", score=index if index % 2 else None, photos=2
        )
    edges = (await gateway.ask(PAGE))["events"]["edges"]
    assert len(edges) == 50
    del gateway.store.calls["VerifyKey"]
    assert gateway.store.calls == {
        "ListEvents": 1,
        "BatchGetFailures": 1,
        "BatchGetCameras": 1,
        "BatchListEventMedia": 1,
        "BatchListDetections": 1,
        "BatchGetMedia": 1,
    }


async def test_the_last_failure_of_events(gateway: Gateway) -> None:
    failed, asked, well = (gateway.store.add_event(index) for index in range(3))
    expected = {"reason": "BAD_ANSWER", "detail": "no JSON"}
    for event, request in ((failed, ""), (asked, uuid("request"))):
        failure = EventFailure(event_id=event.id, given_up_request_id=request, **expected)  # type: ignore[arg-type]
        failure.failed_at.FromDatetime(NOON)
        gateway.store.failures[event.id] = failure
    query = "{ events { edges { node { id lastFailure { reason detail failedAt givenUpRequestId } } } } }"
    edges = (await gateway.ask(query))["events"]["edges"]
    expected["failedAt"] = "2026-11-21T12:00:00+00:00"
    assert {edge["node"]["id"]: edge["node"]["lastFailure"] for edge in edges} == {
        failed.id: expected | {"givenUpRequestId": None},
        asked.id: expected | {"givenUpRequestId": uuid("request")},
        well.id: None,
    }


async def test_a_page_of_media_with_their_detections_costs_two_calls(gateway: Gateway) -> None:
    for index in range(120):
        gateway.store.add_media(index, found=index % 3)
    query = (
        "{ mediaList(first: 100) { edges { node { id detections(first: 500) { edges { node { id } } } } } } }"
    )
    edges = (await gateway.ask(query))["mediaList"]["edges"]
    assert [len(edge["node"]["detections"]["edges"]) for edge in edges[:6]] == [2, 1, 0, 2, 1, 0]
    del gateway.store.calls["VerifyKey"]
    assert gateway.store.calls == {"ListMedia": 1, "BatchListDetections": 1}


async def test_everything_about_one_event(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, score=72)
    query = """query($id: ID!) { event(id: $id) {
      __typename id status revision sequence startedAt endedAt closed labels
      camera { id name timeZone enabled thresholds { label score } }
      assessment { score severity summary reasoner assessedAt factors { name points text detectionIds } }
      detections(first: 1) { edges { cursor node { id label score capturedAt box { xMin yMin xMax yMax }
        media { id } } } pageInfo { hasNextPage endCursor } }
      media { id url thumbnailUrl capturedAt detectedAt width height detector } } }"""
    media = uuid("media", 100)
    detection = {
        "id": uuid("detection", 100, 0),
        "label": "person",
        "score": 0.9,
        "capturedAt": "2026-11-21T12:01:40+00:00",
        "box": {"xMin": 0.1, "yMin": 0.2, "xMax": 0.3, "yMax": 0.4},
        "media": {"id": media},
    }
    response = (await gateway.ask(query, id=event.id))["event"]
    cursor = response["detections"]["pageInfo"]["endCursor"]
    assert cursor
    assert response == {
        "__typename": "Event",
        "id": event.id,
        "status": "ASSESSED",
        "revision": 1,
        "sequence": "2",
        "startedAt": "2026-11-21T12:00:01+00:00",
        "endedAt": "2026-11-21T12:00:02+00:00",
        "closed": False,
        "labels": ["person"],
        "camera": {
            "id": "front-door",
            "name": "Front-Door",
            "timeZone": "",
            "enabled": True,
            "thresholds": [],
        },
        "assessment": {
            "score": 72,
            "severity": "HIGH",
            "summary": "A person came to the door.",
            "reasoner": "rules/v1",
            "assessedAt": "2026-11-21T12:00:00+00:00",
            "factors": [
                {
                    "name": "class",
                    "points": 72,
                    "text": "a person",
                    "detectionIds": [uuid("detection", 0, 0)],
                }
            ],
        },
        "detections": {
            "edges": [{"cursor": cursor, "node": detection}],
            "pageInfo": {"hasNextPage": True, "endCursor": cursor},
        },
        "media": [
            {
                "id": media,
                "url": f"/media/{media}",
                "thumbnailUrl": f"/media/{media}/thumbnail",
                "capturedAt": "2026-11-21T12:01:40+00:00",
                "detectedAt": "2026-11-21T12:01:40.250000+00:00",
                "width": 640,
                "height": 480,
                "detector": "fake@1",
            }
        ],
    }


async def test_a_box_in_the_deprecated_field_is_read(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    for stored in gateway.store.detections:
        stored.detection.ClearField("bounding_box")
        stored.detection.box.extend([0.1, 0.2, 0.3, 0.4])
    query = """query($id: ID!) { event(id: $id) { detections { edges { node {
      box { xMin yMin xMax yMax } } } } } }"""
    edges = (await gateway.ask(query, id=event.id))["event"]["detections"]["edges"]
    assert edges[0]["node"] == {"box": {"xMin": 0.1, "yMin": 0.2, "xMax": 0.3, "yMax": 0.4}}


async def test_the_assessment_of_a_pending_event_is_null(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    (edge,) = (await gateway.ask("{ events { edges { node { status assessment { score } } } } }"))["events"][
        "edges"
    ]
    assert edge["node"] == {"status": "PENDING", "assessment": None}


async def test_a_cursor_leads_to_the_next_page(gateway: Gateway) -> None:
    for index in range(5):
        gateway.store.add_event(index)
    query = """query($after: String) { events(first: 2, after: $after) { edges { cursor node { id } }
      pageInfo { hasNextPage endCursor } } }"""
    seen, after = [], None
    for more in (True, True, False):
        page = (await gateway.ask(query, after=after))["events"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        assert after == page["edges"][-1]["cursor"]
        assert page["pageInfo"]["hasNextPage"] is more
    assert seen == [uuid("event", index) for index in (4, 3, 2, 1, 0)]


async def test_an_empty_page_has_no_cursor(gateway: Gateway) -> None:
    page = (await gateway.ask("{ rejections { edges { cursor } pageInfo { hasNextPage endCursor } } }"))[
        "rejections"
    ]
    assert page == {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}


async def test_detections_continue_after_a_cursor(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, found=3)
    query = """query($id: ID!, $media: ID!, $first: String, $second: String) {
      event(id: $id) { detections(first: 2, after: $first) {
        edges { cursor node { id } } pageInfo { hasNextPage } } }
      media(id: $media) { detections(first: 2, after: $second) { edges { cursor node { id } } } } }"""
    ids = {"id": event.id, "media": uuid("media", 100)}
    start = await gateway.ask(query, **ids)
    first = start["event"]["detections"]["edges"][0]["cursor"]
    second = start["media"]["detections"]["edges"][1]["cursor"]
    response = await gateway.ask(query, **ids, first=first, second=second)
    assert [edge["node"]["id"] for edge in response["event"]["detections"]["edges"]] == [
        uuid("detection", 100, 1),
        uuid("detection", 100, 2),
    ]
    assert response["event"]["detections"]["pageInfo"] == {"hasNextPage": False}
    assert [edge["node"]["id"] for edge in response["media"]["detections"]["edges"]] == [
        uuid("detection", 100, 2)
    ]


@pytest.mark.parametrize("id", [uuid("unknown"), "no uuid", "", "../../etc/passwd"])
async def test_unknown_ids_are_null(gateway: Gateway, id: str) -> None:
    query = "query($id: ID!) { camera(id: $id) { id } event(id: $id) { id } media(id: $id) { id } }"
    assert await gateway.ask(query, id=id) == {"camera": None, "event": None, "media": None}


async def test_the_whole_filter_is_passed_to_the_store(gateway: Gateway) -> None:
    await gateway.post(
        """query($f: EventFilter) { events(first: 7, after: "3", filter: $f) { edges { cursor } } }""",
        f={
            "cameraIds": ["a", "b"],
            "labels": ["dog"],
            "zoneIds": ["path", "steps"],
            "severities": ["HIGH", "CRITICAL"],
            "statuses": ["ASSESSED"],
            "startedAfter": "2026-11-21T12:00:00+01:00",
            "startedBefore": "2026-11-21T12:00:00.5Z",
        },
    )
    request: Any = gateway.store.requests[-1]
    assert (request.page_size, request.page_token) == (7, "3")
    assert list(request.filter.camera_ids) == ["a", "b"]
    assert list(request.filter.labels) == ["dog"]
    assert list(request.filter.zone_ids) == ["path", "steps"]
    assert list(request.filter.severities) == [assessment_pb2.SEVERITY_HIGH, assessment_pb2.SEVERITY_CRITICAL]
    assert list(request.filter.statuses) == [event_pb2.EVENT_STATUS_ASSESSED]
    assert request.filter.started_after.ToJsonString() == "2026-11-21T11:00:00Z"
    assert request.filter.started_before.ToJsonString() == "2026-11-21T12:00:00.500Z"


async def test_null_arguments_count_as_absent(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    query = "{ events(first: null, after: null, filter: null) { edges { cursor } } }"
    assert len((await gateway.ask(query))["events"]["edges"]) == 1
    request: Any = gateway.store.requests[-1]
    assert (request.page_size, request.HasField("filter")) == (50, False)


@pytest.mark.parametrize("media_id", ["", uuid("media")])
async def test_rejections(gateway: Gateway, media_id: str) -> None:
    rejection = media_service_pb2.Rejection(
        id=uuid("rejection"),
        media_id=media_id,
        path="Front Door/a.jpg",
        reason=media_pb2.REJECTION_REASON_TRUNCATED,
        detail="It ends.",
    )
    gateway.store.rejections.append(rejection)
    query = (
        "{ rejections(first: 5) { edges { node { id cameraId mediaId path reason detail rejectedAt } } } }"
    )
    assert (await gateway.ask(query))["rejections"]["edges"][0]["node"] == {
        "id": uuid("rejection"),
        "cameraId": None,
        "mediaId": media_id or None,
        "path": "Front Door/a.jpg",
        "reason": "TRUNCATED",
        "detail": "It ends.",
        "rejectedAt": "1970-01-01T00:00:00+00:00",
    }


async def test_an_unknown_camera_has_the_name_in_its_event(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    gateway.store.cameras.clear()
    (edge,) = (await gateway.ask("{ events { edges { node { camera { id name } } } } }"))["events"]["edges"]
    assert edge["node"]["camera"] == {"id": "front-door", "name": "front-door"}


async def test_idle_is_confirmed_in_the_order_of_the_flow(gateway: Gateway) -> None:
    gateway.store.status.sequence = 2**40
    query = """{ status { idle ingest { settling unannounced scanning problem unreadableFolders } detect { lag
    }
      store { detectionsLag rejectionsLag assessmentsLag openEvents dueEvents leasedEvents oldestDueAt outbox
        sequence } } }"""
    gateway.store.clear_calls()
    status = (await gateway.ask(query))["status"]
    asked = [method for method in gateway.store.order if method != "VerifyKey"]
    assert sorted(asked[:3]) == ["GetDetectStatus", "GetIngestStatus", "GetStoreStatus"]
    assert asked[3:] == ["GetDetectStatus", "GetStoreStatus"]  # as it looked idle
    assert status["idle"] is True
    assert status["ingest"] == {
        "settling": 0,
        "unannounced": 0,
        "scanning": False,
        "problem": None,
        "unreadableFolders": [],
    }
    assert status["store"]["sequence"] == str(2**40)
    assert status["store"]["oldestDueAt"] is None


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ("ingest", "settling"),
        ("ingest", "unannounced"),
        ("ingest", "scanning"),
        ("detect", "lag"),
        ("status", "detections_lag"),
        ("status", "rejections_lag"),
        ("status", "assessments_lag"),
        ("status", "open_events"),
        ("status", "due_events"),
        ("status", "leased_events"),
        ("status", "outbox"),
    ],
)
async def test_anything_in_flight_is_not_idle(gateway: Gateway, part: str, field: str) -> None:
    setattr(getattr(gateway.store, part), field, 1)
    assert (await gateway.ask("{ status { idle } }"))["status"] == {"idle": False}


async def test_a_camera_is_created_updated_and_deleted(gateway: Gateway) -> None:
    made = await gateway.ask(
        """mutation { createCamera(input: {id: "garden", timeZone: "Europe/Berlin",
        thresholds: [{label: "dog", score: 0.5}, {label: "*", score: 0.7}]}) {
        camera { id name timeZone enabled thresholds { label score } } } }"""
    )
    assert made["createCamera"]["camera"] == {
        "id": "garden",
        "name": "garden",
        "timeZone": "Europe/Berlin",
        "enabled": True,
        "thresholds": [{"label": "*", "score": 0.7}, {"label": "dog", "score": 0.5}],
    }
    changed = await gateway.ask(
        """mutation { updateCamera(input: {id: "garden", name: "Back", enabled: false, thresholds: []}) {
        camera { name timeZone enabled thresholds { label } } } }"""
    )
    assert changed["updateCamera"]["camera"] == {
        "name": "Back",
        "timeZone": "Europe/Berlin",
        "enabled": False,
        "thresholds": [],
    }
    request: Any = gateway.store.requests[-1]
    assert list(request.update_mask.paths) == ["display_name", "enabled", "thresholds"]
    assert [c["id"] for c in (await gateway.ask("{ cameras { id } }"))["cameras"]] == ["garden"]
    assert await gateway.ask("""mutation { deleteCamera(id: "garden") { id } }""") == {
        "deleteCamera": {"id": "garden"}
    }
    assert await gateway.ask("""{ camera(id: "garden") { id } cameras { id } }""") == {
        "camera": None,
        "cameras": [],
    }


async def test_an_update_of_nothing_is_refused(gateway: Gateway) -> None:
    error = await gateway.error(
        """mutation { updateCamera(input: {id: "garden", name: null}) { camera { id } } }"""
    )
    assert error["extensions"]["reason"] == "NOTHING_TO_UPDATE"
    assert gateway.store.calls["UpdateCamera"] == 0


@pytest.mark.parametrize("labels", [("dog", "dog"), ("dog", "Dog"), ("motorbike", "motorcycle")])
@pytest.mark.parametrize(
    "query",
    [
        "mutation { createCamera(input: %s) { camera { id } } }",
        "mutation { updateCamera(input: %s) { camera { id } } }",
        "{ previewPolicy(input: %s) { proposedPolicyDigest } }",
    ],
)
async def test_two_thresholds_of_one_label_are_refused(
    gateway: Gateway, query: str, labels: tuple[str, str]
) -> None:
    thresholds = ", ".join(f'{{label: "{label}", score: 1}}' for label in labels)
    error = await gateway.error(query % f'{{id: "a", thresholds: [{thresholds}]}}')
    assert error["extensions"]["reason"] == "DUPLICATE_LABEL"
    assert repr(labels[1]) in error["message"]


EMPTY_LISTS = ["cameraIds", "labels", "zoneIds", "severities", "statuses"]


@pytest.mark.parametrize("name", EMPTY_LISTS)
async def test_an_empty_list_in_a_filter_matches_nothing(gateway: Gateway, name: str) -> None:
    query = """query($f: EventFilter, $first: Int = 9) { events(first: $first, filter: $f) {
      edges { cursor } pageInfo { hasNextPage endCursor } } }"""
    nothing = {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    gateway.store.add_event(1)
    assert (await gateway.ask(query, f={name: []}))["events"] == nothing
    others = dict.fromkeys(EMPTY_LISTS)
    assert (await gateway.ask(query, f=others | {name: []}))["events"] == nothing
    assert (await gateway.ask(query, f=others))["events"]["edges"]
    error = await gateway.error(query, f={name: []}, first=0)
    assert error["extensions"]["reason"] == "BAD_PAGE_SIZE"


async def test_an_empty_list_of_cameras_has_no_media(gateway: Gateway) -> None:
    query = "query($c: [ID!]) { mediaList(cameraIds: $c) { edges { cursor } } }"
    gateway.store.add_event(1)
    assert (await gateway.ask(query, c=[]))["mediaList"]["edges"] == []
    assert (await gateway.ask(query, c=None))["mediaList"]["edges"]


async def test_a_media_that_was_deleted_meanwhile_is_an_error_at_its_path(gateway: Gateway) -> None:
    event = gateway.store.add_event(1)
    gateway.store.media.clear()
    query = """query($id: ID!) { event(id: $id) { id detections { edges { node { media { id } } } } }
      camera(id: "x") { id } }"""
    response = await gateway.post(query, id=event.id)
    assert response["data"] == {"event": None, "camera": None}
    assert {error["extensions"]["reason"] for error in response["errors"]} == {"MEDIA_NOT_FOUND"}
    assert response["errors"][0]["path"] == ["event", "detections", "edges", 0, "node", "media"]
    assert NotFound.code.name == response["errors"][0]["extensions"]["code"]


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (EventStatus, event_pb2.EventStatus, "EVENT_STATUS_"),
        (Severity, assessment_pb2.Severity, "SEVERITY_"),
        (RejectionReason, media_pb2.RejectionReason, "REJECTION_REASON_"),
    ],
)
def test_enums_are_those_of_the_contract(ours: Any, theirs: Any, prefix: str) -> None:
    named = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert {member.name: member.value for member in ours} == named
