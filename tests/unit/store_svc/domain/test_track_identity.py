"""To which track a name belongs after frames have joined the event."""

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from lares.reason.v1.evidence_pb2 import Person
from lares.scene.v1.scene_pb2 import Track
from store_svc.domain.frozen_evidence import FrozenEvidence
from store_svc.domain.track_identity import NamedTrack, name_tracks

IDS = [UUID(int=n) for n in range(8)]


def named(person: str, *detections: int) -> NamedTrack:
    body = Person(id=person).SerializeToString() if person else b""
    return NamedTrack(UUID(int=100 + detections[0]), tuple(IDS[n] for n in detections), body)


def shown(tracks: Sequence[Sequence[int]], *names: NamedTrack) -> tuple[list[str | None], int]:
    """The person of each track, None where nobody has said who it is; and how many names are lost."""
    messages = [Track(id=str(n), detection_indexes=indexes) for n, indexes in enumerate(tracks)]
    lost = name_tracks(messages, IDS, names)
    return [one.identity.person_id if one.HasField("identity") else None for one in messages], len(lost)


def test_a_name_stays_with_its_track() -> None:
    assert shown([[0, 1], [2]], named("ada", 0, 1)) == (["ada", None], 0)
    assert shown([[0, 1], [2]], named("", 2), named("ada", 0, 1)) == (["ada", ""], 0)


def test_it_goes_to_the_track_with_most_of_its_detections() -> None:
    assert shown([[0, 3], [1, 2, 4]], named("ada", 0, 1, 2)) == ([None, "ada"], 0)


def test_else_to_none() -> None:
    assert shown([[0, 3], [1, 4]], named("ada", 0, 1)) == ([None, None], 1)
    assert shown([[0], [1], [2]], named("ada", 0, 1, 2)) == ([None, None, None], 1)


def test_two_names_of_one_track_are_none_unless_they_are_the_same() -> None:
    assert shown([[0, 1, 2, 3]], named("ada", 0, 1), named("bob", 2, 3)) == ([None], 2)
    assert shown([[0, 1, 2, 3]], named("ada", 0, 1), named("", 2, 3)) == ([None], 2)
    assert shown([[0, 1, 2, 3]], named("ada", 0, 1), named("ada", 2, 3)) == (["ada"], 0)


@given(
    st.permutations(range(8)),
    st.lists(st.integers(1, 7), max_size=3),
    st.lists(st.integers(0, 7), min_size=1),
)
def test_each_name_is_shown_or_lost(order: list[int], cuts: list[int], detections: list[int]) -> None:
    borders = sorted({0, 8, *cuts})
    tracks = [order[start:end] for start, end in pairwise(borders)]
    people, lost = shown(tracks, named("ada", *dict.fromkeys(detections)))
    assert people.count("ada") + lost == 1


class TestDigest:
    def test_covers_names_in_any_order(self) -> None:
        one, other, unknown = named("ada", 0, 1), named("bob", 2), named("", 2)
        frozen = FrozenEvidence(b"a", b"b")
        digests = [frozen.with_names(names).digest for names in ((), (one,), (one, other), (one, unknown))]
        assert len({*digests}) == 4
        assert frozen.with_names([other, one]).digest == digests[2]

    def test_people_are_those_whom_somebody_named(self) -> None:
        frozen = FrozenEvidence(b"", b"", (named("ada", 0), named("", 1)))
        assert [person.id for person in frozen.message().people] == ["ada"]
