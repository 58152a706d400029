"""Which findings are told: classes, names, thresholds and who wins."""

import pytest

from detect_svc.detector import Found
from detect_svc.filter import Filter
from detect_svc.labels import CANONICAL
from mesh.config import load_config
from mesh.labels import ALIASES, canonical
from mesh.problems import Invalid
from tests.support.detectors import FakeDetector

BOX = (0.0, 0.0, 1.0, 1.0)


def rule(**settings: object) -> Filter:
    return Filter.of(load_config(**settings), FakeDetector())


def found(*named: tuple[str, float]) -> list[Found]:
    return [Found(rank, label, score, BOX) for rank, (label, score) in enumerate(named)]


def kept(chosen: Filter, *named: tuple[str, float], **camera: float) -> list[str]:
    return [one.label for one in chosen.kept(found(*named), camera)]


def test_only_watched_classes_at_or_above_the_detectors_threshold() -> None:
    sight = [("person", 0.9), ("umbrella", 0.9), ("dog", 0.5), ("cat", 0.4999), ("car", 0.1)]
    assert kept(rule(), *sight) == ["person", "dog"]
    assert kept(rule(detect_classes=["umbrella"]), *sight) == ["umbrella"]


def test_each_threshold_wins_over_the_more_general_one() -> None:
    by_all = rule(detect_threshold=0.3)
    assert kept(by_all, ("dog", 0.3), ("dog", 0.29)) == ["dog"]
    by_class = rule(detect_threshold=0.3, detect_thresholds={"dog": 0.7})
    assert kept(by_class, ("dog", 0.69), ("cat", 0.3)) == ["cat"]
    assert by_class.thresholds["dog"] == 0.7
    assert kept(by_class, ("dog", 0.6), ("cat", 0.5), **{"*": 0.6}) == ["dog"]
    assert kept(by_class, ("dog", 0.2), ("cat", 0.5), **{"*": 0.6, "dog": 0.2}) == ["dog"]


def test_a_threshold_of_zero_is_a_threshold() -> None:
    assert kept(rule(detect_threshold=0.0), ("dog", 0.0)) == ["dog"]
    assert kept(rule(), ("dog", 0.01), dog=0.0) == ["dog"]


def test_other_names_mean_the_same_classes() -> None:
    chosen = rule(detect_classes=["Motorbike", "sofa", "person"], detect_thresholds={"motorbike": 0.9})
    assert list(chosen.watched) == ["motorcycle", "couch", "person"]
    assert kept(chosen, ("motorcycle", 0.89), ("couch", 0.5)) == ["couch"]
    assert kept(chosen, ("motorcycle", 0.2), motorbike=0.1) == ["motorcycle"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("detect_classes", ["person", "burglar"]),
        ("detect_thresholds", {"burglar": 0.5}),
        ("detect_fast_classes", ["burglar"]),
    ],
)
def test_a_class_that_the_detector_lacks_fails_at_start(setting: str, value: object) -> None:
    with pytest.raises(Invalid, match=f"LARES_{setting.upper()}: fake cannot find burglar") as refused:
        rule(**{setting: value})
    assert refused.value.reason == "UNKNOWN_CLASS"


def test_urgent_is_a_fast_class_at_or_above_the_fast_threshold() -> None:
    chosen = rule()
    assert chosen.urgent(found(("dog", 0.99), ("person", 0.8)))
    assert not chosen.urgent(found(("dog", 0.99), ("person", 0.79)))
    assert not chosen.urgent([])
    assert rule(detect_fast_threshold=0.5, detect_fast_classes=["dog"]).urgent(found(("dog", 0.5)))


def test_the_defaults_are_what_the_issue_asks() -> None:
    watched = "person bicycle car motorcycle bus truck bird cat dog horse sheep cow bear"
    assert " ".join(rule().watched) == watched
    assert rule().fast_classes == {"person"}
    assert set(rule().thresholds.values()) == {FakeDetector.threshold}


def test_canonical_names_are_themselves_and_aliases_lead_to_them() -> None:
    assert len(set(CANONICAL)) == 80
    assert [canonical(name) for name in CANONICAL] == list(CANONICAL)
    assert set(ALIASES.values()) <= set(CANONICAL)
    assert canonical(" Traffic_Light ") == "traffic light"
    assert canonical("dragon") == "dragon"
