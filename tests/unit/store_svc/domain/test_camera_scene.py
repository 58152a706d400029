"""What a camera may say about its picture, and how a mistake is told."""

from collections.abc import Sequence
from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lares.scene.v1.scene_pb2 import (
    GROUND_DRIVE,
    ZONE_KIND_ENTRY,
    ZONE_KIND_PUBLIC,
    Line,
    Point,
    Zone,
)
from lares.store.v1.camera_pb2 import Mask, SizeFilter
from lares.store.v1.camera_scene_pb2 import CameraScene
from mesh.problems import Invalid
from mesh.scene.messages import line_of, zone_of
from store_svc.domain.camera_scene import camera_watch, changed_scene
from store_svc.domain.watch_policy import SizeFilter as SizeLimits

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
BOW_TIE = ((0.25, 0.25), (0.75, 0.75), (0.75, 0.25), (0.25, 0.75))


def polygon(corners: Sequence[tuple[float, float]]) -> list[Point]:
    return [Point(x=x, y=y) for x, y in corners]


def zone(corners: Sequence[tuple[float, float]] = SQUARE, **changes: Any) -> Zone:
    given: dict[str, Any] = {"id": "path", "kind": ZONE_KIND_PUBLIC, "polygon": polygon(corners)}
    return Zone(**(given | changes))


def line(start: tuple[float, float], end: tuple[float, float], **changes: Any) -> Line:
    ends = {"start": Point(x=start[0], y=start[1]), "end": Point(x=end[0], y=end[1])}
    return Line(**({"id": "gate"} | ends | changes))


def comb(teeth: int) -> list[tuple[float, float]]:
    """A polygon of 2 * teeth + 2 corners."""
    upper = [(n / (2 * teeth), 0.25 + (n % 2) / 4) for n in range(2 * teeth)]
    return [*upper, (1.0, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize(
    ("faulty", "fault"),
    [
        (zone(id=""), "its id is not a slug"),
        (zone(id="The Path"), "its id is not a slug"),
        (zone(id="path\n"), "its id is not a slug"),
        (zone(id="x" * 64), "its id is not a slug"),
        (zone(id="ground"), "stands for what the camera's ground says"),
        (zone(name="x" * 201), "its name is longer than 200 characters"),
        (zone(kind=0), "no kind that is known"),
        (zone(kind=99), "no kind that is known"),
        (zone(()), "3 to 64 corners, not 0"),
        (zone(SQUARE[:2]), "3 to 64 corners, not 2"),
        (zone(comb(32)), "3 to 64 corners, not 66"),
        (zone((*SQUARE[:3], (nan, 0.5))), "corners must lie in 0..1"),
        (zone((*SQUARE[:3], (0.25, float("inf")))), "corners must lie in 0..1"),
        (zone((*SQUARE[:3], (0.25, 1.0001))), "corners must lie in 0..1"),
        (zone((*SQUARE[:3], (-0.0001, 0.5))), "corners must lie in 0..1"),
        (zone(BOW_TIE), r"no simple polygon: Self-intersection\[0.5 0.5\]"),
        (zone(((0.25, 0.25), (0.75, 0.75), (0.5, 0.5))), "no simple polygon"),
        (zone(((0.5, 0.5),) * 3), "no simple polygon"),
        # It touches itself in one point.
        (zone(((0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1))), "no simple polygon"),
        (zone(((0.0, 0.0), (0.02, 0.0), (0.02, 0.02), (0.0, 0.02))), "its area is not above 0.0005"),
    ],
)
def test_a_zone_that_cannot_be_is_refused_by_name(faulty: Zone, fault: str) -> None:
    with pytest.raises(Invalid, match=fault) as refused:
        changed_scene(b"", {"zones": [zone(id="other"), faulty]})
    assert refused.value.reason == "BAD_ZONE"
    assert refused.value.metadata == {"field": "zones", "id": faulty.id[:63]}
    assert refused.value.message.startswith(f"zone {faulty.id[:63]!r}: ")


def test_a_mask_is_checked_as_a_zone_is() -> None:
    with pytest.raises(Invalid, match="mask 'tree': it is no simple polygon") as refused:
        changed_scene(b"", {"masks": [Mask(id="tree", polygon=polygon(BOW_TIE))]})
    assert (refused.value.reason, refused.value.metadata) == ("BAD_MASK", {"field": "masks", "id": "tree"})


@pytest.mark.parametrize(
    ("faulty", "fault"),
    [
        (line((0.25, 0.5), (0.25, 0.5)), "shorter than 0.02"),
        (line((0.25, 0.5), (0.26, 0.51)), "shorter than 0.02"),
        (line((0.25, 0.5), (1.5, 0.5)), "must lie in 0..1"),
        (line((nan, 0.5), (0.75, 0.5)), "must lie in 0..1"),
        (Line(id="gate", start=Point(x=0.5, y=0.5)), "needs a start and an end"),
        (line((0.25, 0.5), (0.75, 0.5), id="Gate"), "its id is not a slug"),
    ],
)
def test_a_line_that_cannot_be_is_refused_by_name(faulty: Line, fault: str) -> None:
    with pytest.raises(Invalid, match=fault) as refused:
        changed_scene(b"", {"lines": [faulty]})
    assert (refused.value.reason, refused.value.metadata["id"]) == ("BAD_LINE", faulty.id)


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        (SizeFilter(min_area=-0.5), "areas must lie in 0..1"),
        (SizeFilter(max_area=1.5), "areas must lie in 0..1"),
        (SizeFilter(min_area=nan), "areas must lie in 0..1"),
        (SizeFilter(max_aspect=nan), "aspects must be finite"),
        (SizeFilter(min_aspect=-1), "aspects must be finite"),
        (SizeFilter(max_aspect=float("inf")), "aspects must be finite"),
        (SizeFilter(min_area=0.5, max_area=0.25), "nothing would count"),
        (SizeFilter(min_aspect=3, max_aspect=2), "nothing would count"),
    ],
)
def test_a_size_filter_that_cannot_be_is_refused_by_label(size: SizeFilter, fault: str) -> None:
    with pytest.raises(Invalid, match=rf"size filter of 'dog': .*{fault}") as refused:
        changed_scene(b"", {"size_filters": {"*": SizeFilter(), "dog": size}})
    assert (refused.value.reason, refused.value.metadata["label"]) == ("BAD_SIZE_FILTER", "dog")


@pytest.mark.parametrize(
    ("part", "items", "reason"),
    [
        ("zones", [zone(id=f"z{n}") for n in range(33)], "BAD_ZONE"),
        ("lines", [line((0.25, 0.5), (0.75, 0.5), id=f"l{n}") for n in range(33)], "BAD_LINE"),
        ("masks", [Mask(id=f"m{n}", polygon=polygon(SQUARE)) for n in range(33)], "BAD_MASK"),
        ("size_filters", {f"label {n}": SizeFilter() for n in range(33)}, "BAD_SIZE_FILTER"),
    ],
)
def test_there_are_at_most_32_of_each(part: str, items: Any, reason: str) -> None:
    with pytest.raises(Invalid, match=r"at most 32 .*, not 33") as refused:
        changed_scene(b"", {part: items})
    assert (refused.value.reason, refused.value.metadata) == (reason, {"field": part})
    fewer = dict(list(items.items())[:32]) if isinstance(items, dict) else items[:32]
    assert changed_scene(b"", {part: fewer})


@pytest.mark.parametrize("part", ["zones", "masks"])
def test_ids_are_unique_within_a_list(part: str) -> None:
    item = zone() if part == "zones" else Mask(id="path", polygon=polygon(SQUARE))
    with pytest.raises(Invalid, match="another one has the same id"):
        changed_scene(b"", {part: [item, item]})
    changed_scene(b"", {"zones": [zone()], "masks": [Mask(id="path", polygon=polygon(SQUARE))]})


def test_an_unknown_ground_is_refused() -> None:
    with pytest.raises(Invalid) as refused:
        changed_scene(b"", {"ground": 99})
    assert (refused.value.reason, refused.value.metadata) == ("BAD_GROUND", {"field": "ground"})


@pytest.mark.parametrize(
    "corners",
    [
        SQUARE,
        (*SQUARE, SQUARE[0]),  # closed, as GeoJSON has it
        tuple(reversed(SQUARE)),
        ((0, 0), (1, 0), (1, 1), (0, 1)),
        ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.3), (0.1, 0.9)),  # concave
        comb(31),
    ],
)
def test_simple_polygons_are_accepted(corners: Sequence[tuple[float, float]]) -> None:
    scene = changed_scene(b"", {"zones": [zone(corners)]})
    (kept,) = camera_watch({}, scene).zones
    assert len(kept.area.corners) == len(corners)


def test_only_the_named_parts_change() -> None:
    scene = changed_scene(b"", {"zones": [zone()], "ground": GROUND_DRIVE})
    with_line = changed_scene(scene, {"lines": [line((0.25, 0.5), (0.75, 0.5))]})
    read = CameraScene.FromString(with_line)
    assert ([one.id for one in read.zones], [one.id for one in read.lines]) == (["path"], ["gate"])
    assert read.ground == GROUND_DRIVE
    other = changed_scene(with_line, {"zones": [zone(id="steps", kind=ZONE_KIND_ENTRY)], "ground": 0})
    read = CameraScene.FromString(other)
    assert [one.id for one in read.zones] == ["steps"]
    assert not read.HasField("ground")
    assert changed_scene(other, {"zones": [], "lines": []}) == b""


def test_only_what_changes_is_checked() -> None:
    """A version with stricter checks must not refuse every change of a camera that it finds stored."""
    stored = CameraScene(zones=[zone(BOW_TIE)]).SerializeToString()
    assert changed_scene(stored, {"ground": GROUND_DRIVE}).startswith(stored)


def test_the_policy_reads_what_decides() -> None:
    scene = changed_scene(
        b"",
        {
            "zones": [zone()],
            "masks": [Mask(id="tree", polygon=polygon(SQUARE))],
            "size_filters": {"dog": SizeFilter(min_area=0.125), "*": SizeFilter(max_aspect=2)},
        },
    )
    watch = camera_watch({"dog": 0.5}, scene)
    assert [(one.id, one.area.corners) for one in watch.zones] == [("path", SQUARE)]
    assert [mask.corners for mask in watch.masks] == [SQUARE]
    assert watch.thresholds == {"dog": 0.5}
    unlimited = float("inf")
    assert watch.sizes == {
        "dog": SizeLimits(0.125, unlimited, 0.0, unlimited),
        "*": SizeLimits(0.0, unlimited, 0.0, 2.0),
    }


def test_the_bytes_of_a_scene_do_not_depend_on_the_order_of_a_map() -> None:
    labels = [f"label {n}" for n in range(20)]
    one = changed_scene(b"", {"size_filters": {label: SizeFilter() for label in labels}})
    assert one == changed_scene(b"", {"size_filters": {label: SizeFilter() for label in reversed(labels)}})


places = some.floats(0, 1, width=32)
corners = some.lists(some.tuples(places, places), max_size=9)


@given(corners, places, places, places, places)
def test_whatever_is_accepted_is_readable_evidence(
    drawn: list[tuple[float, float]], x: float, y: float, to_x: float, to_y: float
) -> None:
    try:
        scene = changed_scene(b"", {"zones": [zone(drawn)], "lines": [line((x, y), (to_x, to_y))]})
    except Invalid:
        return
    read = CameraScene.FromString(scene)
    assert zone_of(read.zones[0]).area.corners == tuple(drawn)
    assert line_of(read.lines[0]).segment.start == (x, y)
