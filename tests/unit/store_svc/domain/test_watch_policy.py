"""Which findings count: classes and their names, thresholds, sizes, masks and zones."""

import struct
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from detect_svc.detectors.frame_message import frame_message
from lares.store.v1.camera_service_pb2 import PolicyDecision
from mesh.config import load_config
from mesh.labels import ALIASES, COCO_LABELS, canonical
from mesh.scene.geometry import Polygon
from store_svc.domain.watch_policy import (
    CameraWatch,
    Decision,
    Finding,
    ModelThresholds,
    PolicyResult,
    SizeFilter,
    WatchPolicy,
    WatchSettings,
    Zone,
    unknown_labels,
)
from store_svc.service import watch_settings
from tests.support.detectors import FakeDetector
from tests.support.filtered import Filter

BOX = (0.0, 0.0, 1.0, 1.0)
MODEL = ModelThresholds(FakeDetector.threshold, FakeDetector.fast_threshold)
SQUARE = Polygon(((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8)))


def policy(camera: CameraWatch | None = None, **settings: Any) -> WatchPolicy:
    return WatchPolicy.of(watch_settings(load_config(**settings)), camera or CameraWatch(), MODEL)


def found(*named: tuple[str, float]) -> list[Finding]:
    return [Finding(rank, label, score, BOX) for rank, (label, score) in enumerate(named)]


def kept(chosen: WatchPolicy, *named: tuple[str, float]) -> list[str]:
    return [one.label for one in found(*named) if chosen.decide(one).decision is Decision.KEPT]


def own(**thresholds: float) -> CameraWatch:
    return CameraWatch({label.replace("other", "*"): score for label, score in thresholds.items()})


def with_foot(x: float, y: float, label: str = "person") -> Finding:
    return Finding(0, label, 0.9, (x - 0.05, y - 0.1, x + 0.05, y))


def test_the_decisions_are_those_of_the_contract() -> None:
    assert {f"POLICY_DECISION_{one.name}": int(one) for one in Decision} == {
        name: number for name, number in PolicyDecision.items() if number
    }


def test_only_watched_classes_at_or_above_the_detectors_threshold() -> None:
    sight = [("person", 0.9), ("umbrella", 0.9), ("dog", 0.5), ("cat", 0.4999), ("car", 0.1)]
    assert kept(policy(), *sight) == ["person", "dog"]
    assert kept(policy(watch_classes=["umbrella"]), *sight) == ["umbrella"]
    assert [policy().decide(one).decision.name for one in found(*sight)] == [
        "KEPT", "NOT_WATCHED", "KEPT", "BELOW_THRESHOLD", "BELOW_THRESHOLD"
    ]  # fmt: skip


def test_a_specific_threshold_overrides_a_general_one() -> None:
    assert kept(policy(watch_threshold=0.3), ("dog", 0.3), ("dog", 0.29)) == ["dog"]
    by_class: dict[str, Any] = {"watch_threshold": 0.3, "watch_thresholds": {"dog": 0.7}}
    assert kept(policy(**by_class), ("dog", 0.69), ("cat", 0.3)) == ["cat"]
    assert kept(policy(own(other=0.625), **by_class), ("dog", 0.625), ("cat", 0.5)) == ["dog"]
    assert kept(policy(own(other=0.6, dog=0.25), **by_class), ("dog", 0.25), ("cat", 0.5)) == ["dog"]


def test_a_threshold_of_zero_is_a_threshold() -> None:
    assert kept(policy(watch_threshold=0.0), ("dog", 0.0)) == ["dog"]
    assert kept(policy(own(dog=0.0)), ("dog", 0.01)) == ["dog"]


def test_aliases_mean_the_same_classes() -> None:
    settings: dict[str, Any] = {
        "watch_classes": ["Motorbike", "sofa", "person"],
        "watch_thresholds": {"motorbike": 0.9},
    }
    assert set(policy(**settings).thresholds) == {"motorcycle", "couch", "person"}
    assert kept(policy(**settings), ("motorcycle", 0.89), ("couch", 0.5)) == ["couch"]
    assert kept(policy(own(motorbike=0.125), **settings), ("motorcycle", 0.2)) == ["motorcycle"]


def test_a_cameras_threshold_is_a_32_bit_float_and_a_setting_is_not() -> None:
    """A camera's thresholds and scores are 32-bit floats in the contracts; settings are parsed from text."""
    (score,) = struct.unpack("<f", struct.pack("<f", 0.7))
    assert score < 0.7
    assert kept(policy(own(dog=0.7)), ("dog", score)) == ["dog"]
    assert kept(policy(watch_thresholds={"dog": 0.7}), ("dog", score)) == []


def test_the_fast_path_needs_a_fast_class_and_the_fast_threshold() -> None:
    def fast(chosen: WatchPolicy, *named: tuple[str, float]) -> bool:
        return any(chosen.is_fast(one) for one in found(*named))

    assert fast(policy(), ("dog", 0.99), ("person", 0.8))
    assert not fast(policy(), ("dog", 0.99), ("person", 0.79))
    assert fast(policy(watch_fast_threshold=0.5, watch_fast_classes=["dog"]), ("dog", 0.5))


def test_the_defaults() -> None:
    watched = "person bicycle car motorcycle bus truck bird cat dog horse sheep cow bear"
    assert set(policy().thresholds) == set(watched.split())
    assert policy().fast_labels == {"person"}
    assert set(policy().thresholds.values()) == {FakeDetector.threshold}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("watch_classes", ["person", "burglar"]),
        ("watch_thresholds", {"burglar": 0.5}),
        ("watch_fast_classes", ["burglar"]),
    ],
)
def test_a_class_that_the_detector_lacks_is_named_with_its_setting(setting: str, value: object) -> None:
    settings = watch_settings(load_config(**{setting: value}))
    assert unknown_labels(settings, COCO_LABELS) == {setting: ["burglar"]}
    assert unknown_labels(settings, [*COCO_LABELS, "burglar"]) == {}


def test_a_size_filter_is_inclusive_and_for_one_label_or_all_others() -> None:
    camera = CameraWatch(sizes={"person": SizeFilter(0.25, 0.5), "*": SizeFilter(max_area=0.125)})

    def decided(label: str, area: float) -> str:
        return policy(camera).decide(Finding(0, label, 0.9, (0.0, 0.0, area, 1.0))).decision.name

    assert [decided("person", area) for area in (0.24, 0.25, 0.5, 0.51)] == ["SIZE", "KEPT", "KEPT", "SIZE"]
    assert [decided("dog", area) for area in (0.0, 0.125, 0.2)] == ["KEPT", "KEPT", "SIZE"]


def test_a_mask_excludes_findings_whose_foot_point_it_contains() -> None:
    masked = policy(CameraWatch(masks=[SQUARE]))
    assert masked.decide(with_foot(0.5, 0.5)).decision is Decision.MASKED
    assert masked.decide(with_foot(0.5, 0.8)).decision is Decision.MASKED  # on its border
    assert masked.decide(with_foot(0.5, 0.9)).decision is Decision.KEPT
    # The upper part of the box is in the mask, its foot point is not.
    assert masked.decide(Finding(0, "person", 0.9, (0.4, 0.3, 0.6, 0.95))).decision is Decision.KEPT


def test_zones_are_named_and_exclude_nothing() -> None:
    left = Polygon(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    zoned = policy(CameraWatch(zones=[Zone("yard", SQUARE), Zone("left", left)]))
    assert zoned.decide(with_foot(0.3, 0.5)) == PolicyResult(Decision.KEPT, ("left", "yard"))
    assert zoned.decide(with_foot(0.9, 0.9)) == PolicyResult(Decision.KEPT, ())
    assert zoned.decide(with_foot(0.3, 0.5, "kite")) == PolicyResult(Decision.NOT_WATCHED, ())


def test_the_first_check_that_fails_is_the_reason() -> None:
    camera = CameraWatch({"person": 0.95}, {"person": SizeFilter(min_area=0.5)}, [SQUARE])
    assert policy(camera).decide(with_foot(0.5, 0.5, "kite")).decision is Decision.NOT_WATCHED
    assert policy(camera).decide(with_foot(0.5, 0.5)).decision is Decision.BELOW_THRESHOLD
    camera = replace(camera, thresholds={})
    assert policy(camera).decide(with_foot(0.5, 0.5)).decision is Decision.SIZE


def test_a_polygon_may_be_concave_and_contains_its_border() -> None:
    # A U, open at the top.
    left, notch, right = ((0.1, 0.1), (0.3, 0.1)), ((0.3, 0.6), (0.7, 0.6)), ((0.7, 0.1), (0.9, 0.1))
    u = Polygon((*left, *notch, *right, (0.9, 0.9), (0.1, 0.9)))
    assert u.contains((0.2, 0.2))
    assert not u.contains((0.5, 0.3))
    assert u.contains((0.5, 0.7))
    assert all(u.contains(corner) for corner in u.corners)
    assert u.contains((0.5, 0.6))
    assert not u.contains((0.95, 0.6))  # on the line through an edge, outside the edge
    assert not u.contains((0.05, 0.1))


grid = some.integers(0, 8).map(lambda number: number / 8)
singles = some.floats(0, 1, width=32)
labels = some.sampled_from(["person", "dog", "cat", "kite", "motorcycle"])
names = some.sampled_from(["person", "dog", "Motorbike", "motorcycle", "*"])
findings = some.lists(some.tuples(labels, singles), max_size=12)
settings: some.SearchStrategy[dict[str, Any]] = some.builds(
    dict,
    watch_classes=some.lists(some.sampled_from(["person", "dog", "motorbike", "cat"]), min_size=1),
    watch_threshold=some.none() | some.floats(0, 1),
    watch_thresholds=some.dictionaries(some.sampled_from(["person", "dog", "cat"]), some.floats(0, 1)),
    watch_fast_classes=some.lists(labels),
    watch_fast_threshold=some.none() | some.floats(0, 1),
)
cameras = some.dictionaries(names.filter(lambda name: name != "Motorbike"), singles)


@given(settings, cameras, findings)
def test_it_keeps_what_the_filter_of_earlier_versions_kept(
    settings: dict[str, Any], camera: dict[str, float], seen: list[tuple[str, float]]
) -> None:
    """Scores and the thresholds of cameras and detectors are as in records of the log."""
    config = load_config(**settings)
    before = Filter.of(config, FakeDetector())
    now = WatchPolicy.of(watch_settings(config), CameraWatch(camera), MODEL)
    raw = frame_message(4, 3, [(label, score, BOX) for label, score in seen]).detections
    was = before.kept(raw, camera)
    rest = [one for one in found(*seen) if now.decide(one).decision is Decision.KEPT]
    assert [one.rank for one in rest] == [one.rank for one in was]
    assert any(map(now.is_fast, rest)) == before.urgent(was)


points = some.tuples(grid, grid)
polygons = some.lists(points, min_size=3, max_size=5).map(lambda corners: Polygon(tuple(corners)))
watches = some.builds(
    CameraWatch,
    thresholds=some.dictionaries(some.sampled_from(["person", "dog", "*"]), grid),
    sizes=some.dictionaries(some.sampled_from(["person", "*"]), some.builds(SizeFilter, grid, grid)),
    masks=some.lists(polygons, max_size=2),
    zones=some.lists(
        some.builds(Zone, some.sampled_from(["a", "b"]), polygons), max_size=2, unique_by=lambda zone: zone.id
    ),
)
boxed = some.builds(
    lambda label, score, x, y, wide, high: Finding(0, label, score, (x, y, x + wide, y + high)),
    labels, grid, grid, grid, grid, grid,
)  # fmt: skip


@given(watches, watches, boxed)
def test_policies_with_the_same_digest_decide_alike(
    one: CameraWatch, other: CameraWatch, finding: Finding
) -> None:
    first, second = policy(one), policy(other)
    deciding = [field.name for field in fields(first) if field.name != "digest"]
    if first.digest == second.digest:
        assert first.decide(finding) == second.decide(finding)
        assert first.is_fast(finding) == second.is_fast(finding)
    else:
        assert any(getattr(first, name) != getattr(second, name) for name in deciding)


@pytest.mark.parametrize(
    "camera",
    [
        own(person=0.75),
        CameraWatch(sizes={"person": SizeFilter(0.1)}),
        CameraWatch(sizes={"*": SizeFilter(0.0, 0.5)}),
        CameraWatch(masks=[SQUARE]),
        CameraWatch(zones=[Zone("yard", SQUARE)]),
        CameraWatch(zones=[Zone("garden", SQUARE)]),
    ],
)
def test_the_digest_depends_on_every_value_of_the_camera(camera: CameraWatch) -> None:
    assert policy(camera).digest != policy().digest


@pytest.mark.parametrize(
    "settings",
    [
        {"watch_classes": ["person"]},
        {"watch_threshold": 0.25},
        {"watch_thresholds": {"dog": 0.25}},
        {"watch_fast_classes": ["dog"]},
        {"watch_fast_threshold": 0.5},
    ],
)
def test_the_digest_depends_on_the_settings_but_not_on_values_without_effect(
    settings: dict[str, Any],
) -> None:
    assert policy(**settings).digest != policy().digest
    assert policy(own(kite=0.5)).digest == policy().digest
    assert policy(own(person=0.5)).digest == policy().digest  # the same as the detector's own
    other = WatchPolicy.of(WatchSettings(["dog", "person"]), CameraWatch(), MODEL)
    assert other.digest == WatchPolicy.of(WatchSettings(["person", "dog"]), CameraWatch(), MODEL).digest


def test_the_digest_is_the_same_in_every_process() -> None:
    camera = CameraWatch({"dog": 0.25}, {"*": SizeFilter(0.125)}, [SQUARE], [Zone("yard", SQUARE)])
    chosen = WatchPolicy.of(WatchSettings(["person", "dog"]), camera, ModelThresholds(0.5, 0.6))
    assert chosen.digest == "6e7337897c1d61419ee0625999b12af62f030efc0cf029db82c3de88c6b2554a"


def test_canonical_names_and_their_aliases() -> None:
    assert len(set(COCO_LABELS)) == 80
    assert [canonical(name) for name in COCO_LABELS] == list(COCO_LABELS)
    assert set(ALIASES.values()) <= set(COCO_LABELS)
    assert canonical("dragon") == "dragon"
    assert canonical(" License-Plate_EU ") == "license-plate eu"


@pytest.mark.parametrize(
    ("label", "spellings"),
    [
        (
            "traffic light",
            [" Traffic_Light ", "TrafficLight", "traffic-light", "traffic\u00a0\n light", "trafficlight"],
        ),
        ("motorcycle", ["MOTORBIKE", "motor bike", "motor-bike", "Motor_Bike"]),
        ("airplane", ["aeroplane", "Aero Plane", "air-plane"]),
        ("tv", ["tvmonitor", "TV monitor", "tv-monitor", "TV_Monitor", "Television"]),
        ("couch", ["Sofa", " sofa"]),
        ("dining table", ["diningtable", "dining-table", "Dining_Table"]),
        ("potted plant", ["pottedplant", "potted-plant", "PottedPlant"]),
        ("hair drier", ["hairdryer", "hair-dryer", "Hair Drier"]),
        ("cell phone", ["cellphone", "mobile phone", "MobilePhone", "cell-phone"]),
        ("hot dog", ["hotdog", "hot-dog"]),
        (
            "person",
            [
                "\uff30erson",
                "ｐｅｒｓｏｎ",
                "\ufeffperson",
                "per\u200bson",
                "PER\u00adSON\u200e",
                "pers\u2060on ",
            ],
        ),
        (
            "fire hydrant",
            ["fire\u2010hydrant", "Fire\u2011Hydrant", "fire\u2013hydrant", "fire \u2212 hydrant"],
        ),
        ("caf\u00e9 table", ["cafe\u0301 table"]),
    ],
)
def test_every_spelling_is_one_label(label: str, spellings: list[str]) -> None:
    assert {canonical(spelling) for spelling in spellings} == {label}


@pytest.mark.parametrize(
    "name", ["-person", "\u2212person", "!person", "person-", "persons", "person,person", "no person"]
)
def test_what_only_resembles_a_label_is_none(name: str) -> None:
    assert canonical(name) not in COCO_LABELS


@given(some.text())
def test_a_canonical_name_stays_as_it_is(name: str) -> None:
    assert canonical(canonical(name)) == canonical(name)


def test_letters_of_other_scripts_are_not_taken_for_those_they_look_like() -> None:
    assert canonical("pers\u043en") != "person"
