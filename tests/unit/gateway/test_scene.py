"""Zones, lines, masks, size filters and the ground of cameras; the zones of events and detections."""

from typing import Any

import pytest

from gateway.schema.scene import CameraGround, CameraZoneKind
from lares.scene.v1 import scene_pb2
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fake_store import uuid

SQUARE = [{"x": x, "y": y} for x, y in ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9))]
BOW_TIE = [SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]]
SCENE: dict[str, Any] = {
    "zones": [
        {"id": "path", "name": "The path", "kind": "APPROACH", "polygon": SQUARE},
        {"id": "pavement", "name": "", "kind": "PUBLIC", "polygon": SQUARE[:3]},
    ],
    "lines": [{"id": "gate", "name": "Gate", "start": SQUARE[0], "end": SQUARE[1]}],
    "masks": [{"id": "tree", "name": "Tree", "polygon": SQUARE}],
    "sizeFilters": [
        {"label": "*", "minArea": 0, "maxArea": 0.5, "minAspect": 0, "maxAspect": 0},
        {"label": "dog", "minArea": 0.01, "maxArea": 0, "minAspect": 0.2, "maxAspect": 4},
    ],
    "ground": "STREET_SIDE",
}
NOTHING: dict[str, Any] = {"zones": [], "lines": [], "masks": [], "sizeFilters": [], "ground": "UNSPECIFIED"}
FIELDS = """{ zones { id name kind polygon { x y } } lines { id name start { x y } end { x y } }
  masks { id name polygon { x y } } sizeFilters { label minArea maxArea minAspect maxAspect } ground }"""
CREATE = f"mutation($input: CreateCameraInput!) {{ createCamera(input: $input) {{ camera {FIELDS} }} }}"
UPDATE = f"mutation($input: UpdateCameraInput!) {{ updateCamera(input: $input) {{ camera {FIELDS} }} }}"
READ = f"query($id: ID!) {{ camera(id: $id) {FIELDS} cameras {FIELDS} }}"


async def update(gateway: Gateway, **settings: Any) -> Any:
    return (await gateway.ask(UPDATE, input={"id": "front", **settings}))["updateCamera"]["camera"]


async def test_a_camera_is_returned_as_it_was_drawn(gateway: Gateway) -> None:
    created = await gateway.ask(CREATE, input={"id": "front", **SCENE})
    assert created["createCamera"]["camera"] == SCENE
    assert await gateway.ask(READ, id="front") == {"camera": SCENE, "cameras": [SCENE]}


async def test_a_new_camera_says_nothing_about_its_picture(gateway: Gateway) -> None:
    created = await gateway.ask(CREATE, input={"id": "front"})
    assert created["createCamera"]["camera"] == NOTHING
    assert (await gateway.ask("{ cameras { warnings } }"))["cameras"] == [{"warnings": []}]
    assert (await gateway.ask("{ status { camerasWithWarnings { id } } }"))["status"] == {
        "camerasWithWarnings": []
    }


async def test_an_update_replaces_the_lists_that_are_given(gateway: Gateway) -> None:
    await gateway.ask(CREATE, input={"id": "front", **SCENE})
    assert await update(gateway, name="Porch") == SCENE
    one = SCENE["zones"][1:]
    assert await update(gateway, zones=one, lines=None) == SCENE | {"zones": one}
    request: Any = gateway.store.requests[-1]
    assert list(request.update_mask.paths) == ["zones"]
    assert await update(gateway, ground="UNSPECIFIED", masks=[]) == SCENE | {
        "zones": one,
        "ground": "UNSPECIFIED",
        "masks": [],
    }
    assert await update(gateway, **NOTHING) == NOTHING
    assert await update(gateway, **SCENE) == SCENE


@pytest.mark.parametrize(
    ("settings", "reason", "fault"),
    [
        ({"zones": [SCENE["zones"][0] | {"polygon": BOW_TIE}]}, "BAD_ZONE", "zone 'path': it is no simple"),
        ({"zones": [SCENE["zones"][0] | {"polygon": SQUARE[:2]}]}, "BAD_ZONE", "3 to 64 corners, not 2"),
        ({"zones": SCENE["zones"] * 2}, "BAD_ZONE", "another one has the same id"),
        ({"zones": [SCENE["zones"][0] | {"id": "The path"}]}, "BAD_ZONE", "no slug|not a slug"),
        ({"masks": [SCENE["masks"][0] | {"polygon": BOW_TIE}]}, "BAD_MASK", "mask 'tree'"),
        ({"lines": [SCENE["lines"][0] | {"end": SQUARE[0]}]}, "BAD_LINE", "line 'gate': it is shorter"),
        ({"sizeFilters": [{"label": "dog", "minArea": 2}]}, "BAD_SIZE_FILTER", "size filter of 'dog'"),
        ({"sizeFilters": [{"label": "burglar"}]}, "BAD_LABEL", ""),
        ({"sizeFilters": [{"label": "dog"}, {"label": "Dog"}]}, "DUPLICATE_LABEL", "one size filter only"),
    ],
)
async def test_a_mistake_is_told_by_its_name(
    gateway: Gateway, settings: dict[str, Any], reason: str, fault: str
) -> None:
    gateway.store.add_camera("front")
    preview = "query($input: UpdateCameraInput!) { previewPolicy(input: $input) { proposedPolicyDigest } }"
    for text, id in ((CREATE, "new"), (UPDATE, "front"), (preview, "front")):
        error = await gateway.error(text, input={"id": id, **settings})
        assert error["extensions"]["reason"] == reason
        assert any(part in error["message"] for part in fault.split("|"))


async def test_events_and_detections_have_zones(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, found=3)
    event.zone_ids[:] = ["path", "steps"]
    for stored, zones in zip(gateway.store.detections, (["path"], [], ["path", "steps"]), strict=True):
        stored.zone_ids[:] = zones
    query = """query($zones: [ID!]) { events(filter: {zoneIds: $zones}) { edges { node { id zones
      detections(zoneIds: $zones) { edges { node { zones } } }
      media { detections(zoneIds: $zones) { edges { node { zones } } } } } } } }"""

    async def found(zones: list[str] | None) -> Any:
        (node,) = [edge["node"] for edge in (await gateway.ask(query, zones=zones))["events"]["edges"]]
        assert (node["id"], node["zones"]) == (event.id, ["path", "steps"])
        of_event = [edge["node"]["zones"] for edge in node["detections"]["edges"]]
        assert [edge["node"]["zones"] for edge in node["media"][0]["detections"]["edges"]] == of_event
        return of_event

    assert await found(None) == [["path"], [], ["path", "steps"]]
    assert await found(["path"]) == [["path"], ["path", "steps"]]
    assert await found(["steps", "nowhere"]) == [["path", "steps"]]
    assert (await gateway.ask(query, zones=["nowhere"]))["events"]["edges"] == []


async def test_no_zones_match_no_detections(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, found=3)
    query = """query($id: ID!) { event(id: $id) {
      none: detections(zoneIds: []) { edges { cursor } pageInfo { hasNextPage } }
      after: detections(zoneIds: [], after: "x") { edges { cursor } }
      all: detections { edges { cursor } }
      media { detections(zoneIds: []) { edges { cursor } } } } }"""
    found = (await gateway.ask(query, id=event.id))["event"]
    assert found["none"] == {"edges": [], "pageInfo": {"hasNextPage": False}}
    assert found["after"]["edges"] == found["media"][0]["detections"]["edges"] == []
    assert len(found["all"]["edges"]) == 3


async def test_detections_of_zones_continue_after_a_cursor(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, found=5)
    for stored in gateway.store.detections[::2]:
        stored.zone_ids[:] = ["path"]
    query = """query($id: ID!, $after: String) { event(id: $id) { detections(first: 2, after: $after,
      zoneIds: ["path"]) { edges { node { id } } pageInfo { endCursor hasNextPage } } } }"""
    first = (await gateway.ask(query, id=event.id))["event"]["detections"]
    cursor = first["pageInfo"]["endCursor"]
    rest = (await gateway.ask(query, id=event.id, after=cursor))["event"]["detections"]
    ids = [edge["node"]["id"] for edge in (*first["edges"], *rest["edges"])]
    assert ids == [uuid("detection", 100, rank) for rank in (0, 2, 4)]
    assert not rest["pageInfo"]["hasNextPage"]


async def test_different_choices_of_zones_are_loaded_apart(gateway: Gateway) -> None:
    event = gateway.store.add_event(1, found=2)
    gateway.store.detections[0].zone_ids[:] = ["path"]
    query = """query($id: ID!) { event(id: $id) { a: detections(zoneIds: ["path", "b"]) { edges { cursor } }
      b: detections { edges { cursor } } c: detections(zoneIds: ["b", "path"]) { edges { cursor } } } }"""
    found = (await gateway.ask(query, id=event.id))["event"]
    assert [len(found[name]["edges"]) for name in "abc"] == [1, 2, 1]
    assert gateway.store.calls["BatchListDetections"] == 2


async def test_warnings_are_those_of_the_store_wherever_a_camera_is_shown(gateway: Gateway) -> None:
    """The store looks for them only if it is asked about one camera."""
    gateway.store.add_camera("back", lines=[scene_pb2.Line(id="gate")], warnings=["Line 'gate' ..."])
    gateway.store.add_camera("left", lines=[scene_pb2.Line(id="gate")])
    gateway.store.add_camera("right", warnings=["is not asked about"])
    event = gateway.store.add_event(1, camera="back")
    gateway.store.add_event(2, camera="gone")
    del gateway.store.cameras["gone"]
    query = """query($id: ID!) { camera(id: "back") { warnings } event(id: $id) { camera { warnings } }
      events(filter: {cameraIds: ["gone"]}) { edges { node { camera { warnings } } } } }"""
    found = await gateway.ask(query, id=event.id)
    assert found["camera"] == found["event"]["camera"] == {"warnings": ["Line 'gate' ..."]}
    assert found["events"]["edges"][0]["node"]["camera"] == {"warnings": []}
    status = await gateway.ask("{ status { camerasWithWarnings { id warnings } } }")
    assert status["status"]["camerasWithWarnings"] == [{"id": "back", "warnings": ["Line 'gate' ..."]}]
    assert not {"right"} & {getattr(request, "camera_id", "") for request in gateway.store.requests}


async def test_zones_are_suggested(gateway: Gateway) -> None:
    gateway.store.add_camera("front")
    gateway.store.suggestions.suggestions.add(
        zone=scene_pb2.Zone(
            id="street",
            name="Street",
            kind=scene_pb2.ZONE_KIND_PUBLIC,
            polygon=[scene_pb2.Point(x=corner["x"], y=corner["y"]) for corner in SQUARE],
        ),
        why="They appear small there.",
        people=7,
        vehicles=3,
        events=5,
    )
    query = """query($id: ID!) { suggestZones(cameraId: $id) { id name kind polygon { x y } why people
      vehicles events } }"""
    (found,) = (await gateway.ask(query, id="front"))["suggestZones"]
    assert found == {
        "id": "street",
        "name": "Street",
        "kind": "PUBLIC",
        "polygon": SQUARE,
        "why": "They appear small there.",
        "people": 7,
        "vehicles": 3,
        "events": 5,
    }
    zone = {name: found[name] for name in ("id", "name", "kind", "polygon")}
    assert (await update(gateway, zones=[zone]))["zones"] == [zone]
    assert (await gateway.error(query, id="nothing"))["extensions"]["reason"] == "CAMERA_NOT_FOUND"


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (CameraZoneKind, scene_pb2.ZoneKind, "ZONE_KIND_"),
        (CameraGround, scene_pb2.Ground, "GROUND_"),
    ],
)
def test_enums_are_those_of_the_contract(ours: Any, theirs: Any, prefix: str) -> None:
    named = {name.removeprefix(prefix): number for name, number in theirs.items()}
    assert {member.name: member.value for member in ours} == {
        name: number for name, number in named.items() if number or ours is CameraGround
    }
