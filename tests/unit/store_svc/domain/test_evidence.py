"""The digest of evidence, and the column with its history."""

import hashlib
import json
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from store_svc.domain.evidence import EarlierEvent, digest_v1, dump_history, load_history

A, B, C = (UUID(int=n) for n in (1, 2, 3))
EARLIER_EVENTS = st.builds(EarlierEvent, st.uuids(), st.integers(-(10**15), 10**15))
HISTORIES = st.lists(EARLIER_EVENTS, max_size=5).map(tuple)


def test_digest_is_hex_sha256_of_sorted_ids_history_and_time_zone() -> None:
    text = f"Europe/Berlin\n{A}\n{B}\n{C} 5000000"
    history = (EarlierEvent(C, 5_000_000),)
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert digest_v1([B, A], history, "Europe/Berlin") == expected


@given(st.permutations([A, B, C]))
def test_digest_does_not_depend_on_the_order_of_detections(ids: list[UUID]) -> None:
    assert digest_v1(ids, (), "UTC") == digest_v1([A, B, C], (), "UTC")


def test_digest_depends_on_every_part() -> None:
    base = ([A, B], (EarlierEvent(C, 1),), "UTC")
    others = [
        ([A], (EarlierEvent(C, 1),), "UTC"),
        ([A, B], (), "UTC"),
        ([A, B], (EarlierEvent(C, 2),), "UTC"),
        ([A, B], (EarlierEvent(A, 1),), "UTC"),
        ([A, B], (EarlierEvent(C, 1),), "Asia/Tokyo"),
        ([A, B, C], (), "UTC"),
    ]
    assert len({digest_v1(*base), *(digest_v1(*other) for other in others)}) == len(others) + 1


@given(HISTORIES)
def test_history_is_restored_from_its_column(history: tuple[EarlierEvent, ...]) -> None:
    column = dump_history(history)
    assert load_history(column) == history  # as asyncpg reads jsonb
    assert load_history(json.loads(column)) == history  # as SQLAlchemy does
