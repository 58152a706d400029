"""The examples on docs/zones.md, which are run, and its tables."""

import re
from pathlib import Path

import pytest
from graphql import parse, validate

from gateway.schema import make_schema
from gateway.schema.scene import CameraZoneKind
from lares.scene.v1.scene_pb2 import ZONE_KIND_ENTRY, Point, Zone
from mesh.problems import Invalid
from mesh.scene.doubts import LEAST_TRACKS, MOST_PUBLIC_AREA
from mesh.scene.geometry import Segment
from mesh.scene.places import GROUND_KINDS
from store_svc.domain.camera_scene import (
    FEWEST_CORNERS,
    LEAST_AREA,
    LEAST_LENGTH,
    MOST_CORNERS,
    MOST_ITEMS,
    changed_scene,
)
from tests.unit.gateway.conftest import Gateway

PAGE = (Path(__file__).parents[3] / "docs/zones.md").read_text()
EXAMPLES = re.findall(r"```graphql\n(.*?)```", PAGE, re.DOTALL)


async def test_the_examples_can_be_run_one_after_the_other(gateway: Gateway) -> None:
    gateway.store.add_camera("front-door")
    run = [text for text in EXAMPLES if not text.startswith("subscription")]
    assert len(run) == len(EXAMPLES) - 1 == 7
    ground, suggested, previewed, drawn, filtered, changed, status = [await gateway.ask(text) for text in run]
    assert ground["updateCamera"]["camera"] == {"id": "front-door", "ground": "FRONT_DOOR"}
    assert suggested == {"suggestZones": []}
    assert previewed == {"previewPolicy": {"frames": []}}
    assert drawn["updateCamera"]["camera"] == {
        "zones": [{"id": "steps", "kind": "ENTRY"}, {"id": "pavement", "kind": "PUBLIC"}],
        "lines": [{"id": "gate"}],
        "masks": [{"id": "flag"}],
        "sizeFilters": [{"label": "person", "minArea": 0.002, "maxAspect": 2.5}],
        "ground": "FRONT_DOOR",
        "warnings": [],
    }
    assert filtered == changed == {"events": {"edges": []}}
    assert status == {"status": {"camerasWithWarnings": []}}


def test_the_subscription_is_valid() -> None:
    (text,) = [text for text in EXAMPLES if text.startswith("subscription")]
    assert validate(make_schema()._schema, parse(text)) == []


def test_the_line_of_the_gate_is_crossed_inwards_from_below() -> None:
    gate = Segment((0.7, 0.5), (0.3, 0.5))
    assert gate.side((0.5, 0.6)) < 0 < gate.side((0.5, 0.4))


def test_every_ground_and_every_kind_has_a_row() -> None:
    for ground, steps in GROUND_KINDS.items():
        shown = [f"from {least:.0%} `{kind.name}`" for least, kind in steps if least]
        last = f"`{steps[-1][1].name}`"
        text = ", ".join([*shown, f"else {last}"]) if shown else last
        assert f"| `{ground.name}` | {text} |" in PAGE
    for kind in CameraZoneKind:
        assert f"\n| `{kind.name}` | " in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"At most {MOST_ITEMS} zones, lines, masks and size filters each." in text
    assert f"{FEWEST_CORNERS} to {MOST_CORNERS} corners in 0 to 1" in text
    assert f"more than {LEAST_AREA} of the picture; a line is at least {LEAST_LENGTH} long" in text
    assert f"covers more than {MOST_PUBLIC_AREA:.0%} of the picture" in text
    assert f"most of at least {LEAST_TRACKS} things" in text


def test_the_error_is_the_one_that_is_shown() -> None:
    corners = ((0.4, 0.7), (0.6, 1), (0.6, 0.7), (0.4, 1))
    zone = Zone(id="steps", kind=ZONE_KIND_ENTRY, polygon=[Point(x=x, y=y) for x, y in corners])
    with pytest.raises(Invalid) as refused:
        changed_scene(b"", {"zones": [zone]})
    assert f"\n{refused.value.message}\n" in PAGE
