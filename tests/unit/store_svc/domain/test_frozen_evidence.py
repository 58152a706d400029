"""What is frozen of evidence when an event opens."""

from datetime import time
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lares.reason.v1.evidence_pb2 import CHANGE_KIND_CAME, RELATION_RESIDENT, Change, Evidence
from lares.scene.v1 import scene_pb2
from lares.store.v1.camera_pb2 import Mask
from lares.store.v1.camera_scene_pb2 import CameraScene
from mesh.scene import tracks
from store_svc.domain.evidence import EarlierEvent, digest_v2, sha256_of
from store_svc.domain.expected_visit import PlannedVisit
from store_svc.domain.frozen_evidence import (
    MOST_BYTES,
    MOST_CHANGES,
    MOST_PAST,
    FrozenEvidence,
    amended_body,
    freeze,
    frozen_scene,
    with_change,
)
from store_svc.domain.house import HouseContext, KnownPerson
from store_svc.times import SECOND

CORNERS = [scene_pb2.Point(x=x, y=y) for x, y in ((0, 0), (1, 0), (1, 1))]
ZONE = scene_pb2.Zone(id="door", name="Door", kind=scene_pb2.ZONE_KIND_ENTRY, polygon=CORNERS)
LINE = scene_pb2.Line(id="gate", start=CORNERS[0], end=CORNERS[2])
SCENE = CameraScene(
    zones=[ZONE], lines=[LINE], masks=[Mask(id="tree", polygon=CORNERS)], ground=scene_pb2.GROUND_DRIVE
)
# A hundred characters of three bytes each.
LONG = "€" * 100
VISIT = PlannedVisit(
    id="post",
    name="The post",
    labels=("person",),
    camera_ids=frozenset(),
    zone_ids=("door",),
    weekdays=frozenset(),
    start=time(9),
    end=time(12),
    first_day=None,
    last_day=None,
    zone=ZoneInfo("UTC"),
)


def people(number: int) -> tuple[KnownPerson, ...]:
    return tuple(KnownPerson(UUID(int=n), LONG, RELATION_RESIDENT) for n in range(number))


def frozen(past: int = 0, **house: object) -> Evidence:
    earlier = [EarlierEvent(UUID(int=n), n * SECOND, n * SECOND + 5, n) for n in range(1, past + 1)]
    return freeze(b"", "front", "Front", "UTC", earlier, HouseContext(**house)).message()  # type: ignore[arg-type]


def test_has_the_scene_without_what_hides_findings() -> None:
    scene = frozen_scene(SCENE.SerializeToString(deterministic=True))
    message = freeze(scene, "front", "Front", "Europe/Berlin", [], HouseContext(mode="away")).message()
    assert message == Evidence(
        camera_id="front",
        camera_name="Front",
        time_zone="Europe/Berlin",
        zones=[ZONE],
        lines=[LINE],
        ground=scene_pb2.GROUND_DRIVE,
        mode="away",
        derivation=tracks.VERSION,
        clock_seconds=3,
    )
    assert frozen_scene(b"") == frozen_scene(CameraScene(masks=SCENE.masks).SerializeToString()) == b""


def test_has_the_events_before_as_they_were() -> None:
    (past,) = frozen(past=1).past
    assert (past.event_id, past.detection_count) == (str(UUID(int=1)), 1)
    assert (past.started_at.ToMicroseconds(), past.ended_at.ToMicroseconds()) == (SECOND, SECOND + 5)


def test_of_more_events_before_than_evidence_can_have_the_newest_are_kept() -> None:
    message = frozen(past=MOST_PAST + 20)
    assert [past.detection_count for past in message.past] == list(range(21, MOST_PAST + 21))
    assert list(message.left_out) == ["past"]


def test_what_can_only_lower_a_score_is_left_out_first() -> None:
    """The last of the notes, habits, expected visits and people."""
    notes = [f"{n} {LONG * 3}" for n in range(16)]
    message = frozen(past=MOST_PAST, site_notes=notes, people=people(5), expected=[VISIT])
    assert (len(message.past), len(message.people), len(message.expected)) == (MOST_PAST, 5, 1)
    assert list(message.left_out) == ["site_notes"]
    assert 0 < len(message.site_notes) < 16
    assert list(message.site_notes) == notes[: len(message.site_notes)]
    known = people(200)
    message = frozen(
        past=MOST_PAST,
        site_notes=["a note"],
        expected=[VISIT],
        people=known,
        present_person_ids=[known[0].id, known[150].id],
    )
    assert list(message.left_out) == ["site_notes", "expected", "people"]
    assert (len(message.past), len(message.expected)) == (MOST_PAST, 0)
    assert [person.id for person in message.people] == [str(one.id) for one in known[: len(message.people)]]
    assert list(message.present_person_ids) == [str(known[0].id)]  # nobody is present who is not known


def test_a_change_is_never_left_out_for_what_matters_less() -> None:
    full = freeze(
        b"",
        "front",
        "Front",
        "UTC",
        [],
        HouseContext("night", site_notes=("n" * 500,) * 16, people=people(40)),
    )
    changes = [
        Change(thing="truck", kind=CHANGE_KIND_CAME, zone_id=f"{n:063}") for n in range(MOST_CHANGES + 2)
    ]
    grown = full
    for change in changes:
        grown = with_change(grown, change)
        assert len(grown.body) <= MOST_BYTES
    message = grown.message()
    assert list(message.changes) == changes[:MOST_CHANGES]
    assert (list(message.left_out), message.mode) == (["site_notes", "people", "changes"], "night")
    assert amended_body(grown.body, HouseContext("night")) == grown.body


@given(
    st.integers(0, 130),
    st.lists(st.text(max_size=500), max_size=16),
    st.lists(st.text(max_size=200), max_size=200),
)
def test_is_bounded_and_says_when_something_is_missing(past: int, notes: list[str], names: list[str]) -> None:
    earlier = [EarlierEvent(UUID(int=n), n, n, n) for n in range(past)]
    known = tuple(KnownPerson(UUID(int=n), name, 1) for n, name in enumerate(names))
    house = HouseContext("night", known, (), (VISIT,), tuple(notes))
    result = freeze(b"", "front", "Front", "UTC", earlier, house)
    assert len(result.body) <= MOST_BYTES
    message = result.message()
    whole = (len(message.past), len(message.site_notes), len(message.people))
    assert (whole == (past, len(notes), len(names))) == (not message.left_out)
    assert message.mode == "night"


class TestDigest:
    def test_depends_on_every_part(self) -> None:
        ids = [UUID(int=1), UUID(int=2)]
        parts = [FrozenEvidence(b"a", b"b"), FrozenEvidence(b"ab", b""), FrozenEvidence(b"", b"ab")]
        digests = {digest_v2(ids, part.digest) for part in parts}
        assert len({*digests, digest_v2(ids[:1], parts[0].digest)}) == 4
        assert digest_v2(ids[::-1], parts[0].digest) == digest_v2(ids, parts[0].digest)

    def test_covers_the_version_of_the_derivation(self) -> None:
        now, later = frozen(), frozen()
        later.derivation = "tracks/v3"
        assert sha256_of(now.SerializeToString()) != sha256_of(later.SerializeToString())

    @given(st.lists(st.binary(max_size=3), max_size=4), st.lists(st.binary(max_size=3), max_size=4))
    def test_different_parts_never_have_the_same(self, one: list[bytes], other: list[bytes]) -> None:
        assert (sha256_of(*one) == sha256_of(*other)) == (one == other)
