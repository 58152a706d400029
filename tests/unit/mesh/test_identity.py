"""Ids are UUIDs of version 5."""

from uuid import uuid5

from hypothesis import given
from hypothesis import strategies as st

from mesh.identity import NAMESPACE, detection_id, media_id


@given(st.text(), st.text())
def test_an_id_is_the_uuid_of_its_parts_with_their_lengths(camera: str, sha256: str) -> None:
    name = f"media/{len(camera)}:{camera}/{len(sha256)}:{sha256}"
    assert media_id(camera, sha256) == str(uuid5(NAMESPACE, name))


@given(st.integers(), st.integers())
def test_numbers_are_parts_as_text(frame: int, rank: int) -> None:
    name = f"detection/1:m/{len(str(frame))}:{frame}/{len(str(rank))}:{rank}/1:d"
    assert detection_id("m", frame, rank, "d") == str(uuid5(NAMESPACE, name))
