"""With `take`, an original goes once its photo is durable, and nothing else does."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from ingest_svc import originals
from ingest_svc.fingerprint import Fingerprint, fingerprint, listed
from tests.support.waiting import until
from tests.unit.ingest_svc.house import House
from tests.unit.ingest_svc.photos import jpeg

Look = Callable[[Path, str], Fingerprint | None]


@pytest.fixture
def house(house: House) -> House:
    house.settings["ingest_originals"] = "take"
    return house


def files(house: House) -> set[str]:
    """The names in the camera's folder."""
    return {file.name for file in (house.root / "door").iterdir()}


async def test_take_removes_the_original_after_it_was_announced(house: House) -> None:
    async with house.running():
        await until(lambda: house.idle)
        house.bus.open.clear()
        good, bad = house.drop("door/good.jpg", jpeg("good")), house.drop("door/bad.jpg", b"bad")
        await until(lambda: house.bus.attempts and house.ingest.worker.status().unannounced == 2)
        assert good.exists()
        house.bus.open.set()
        await until(lambda: house.idle and not good.exists())
    assert bad.exists()
    assert house.paths == ["door/good.jpg"]


async def test_take_removes_at_start_what_was_announced_but_not_what_was_refused(house: House) -> None:
    announced = house.drop("door/announced.jpg", jpeg("announced"))
    refused = house.drop("door/refused.jpg", b"bad")
    unkept = house.drop("door/unkept.jpg", jpeg("its blob is not there"))
    house.store.knows(house.root, "door/announced.jpg", "door/refused.jpg", "door/unkept.jpg")
    await house.blobs.put(announced)
    async with house.running():
        await until(lambda: house.idle)
    assert not announced.exists()
    assert refused.exists()
    assert unkept.exists()
    assert house.paths == []


async def test_a_photo_that_replaces_the_one_that_is_taken_is_a_photo_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(look: Look, replacement: str) -> Look:
        def looked(root: Path, path: str) -> Fingerprint | None:
            found = look(root, path)
            if replacement not in dropped:
                dropped.append(replacement)
                house.drop("door/latest.jpg", jpeg(replacement))
            return found

        return looked

    (house.root / "door").mkdir()
    dropped: list[str] = []
    # One comes between the last look and the removal, another before the first of them is put back.
    monkeypatch.setattr(originals, "fingerprint", after(fingerprint, "second"))
    monkeypatch.setattr(originals, "listed", after(listed, "third"))
    async with house.running():
        house.drop("door/latest.jpg", jpeg("first"))
        await until(lambda: len(dropped) == 2 and house.idle and not files(house))
    expected = {sha256(jpeg(mark)).hexdigest() for mark in ("first", "second", "third")}
    assert {media.sha256 for media in house.bus.media} == expected


async def test_a_file_that_somebody_still_writes_is_not_taken(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = [True]
    monkeypatch.setattr(originals, "open_for_writing", lambda _: writing.pop() if writing else False)
    async with house.running():
        house.drop("door/one.jpg", jpeg("one"))
        await until(lambda: len(house.paths) == 2 and house.idle and not files(house))
    assert house.paths[0] == "door/one.jpg"
    assert len({media.id for media in house.bus.media}) == 1


async def test_what_a_killed_process_had_aside_is_put_back(house: House) -> None:
    house.drop("door/.lares-taken-1.jpg", jpeg("one"))
    house.settings["ingest_originals"] = "keep"
    async with house.running():
        await until(lambda: house.idle and house.paths)
    assert house.paths == ["door/lares-taken-1.jpg"]
    assert files(house) == {"lares-taken-1.jpg"}
