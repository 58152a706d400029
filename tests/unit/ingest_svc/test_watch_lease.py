"""A watcher that does not know whether it still holds its lease announces and removes nothing. When it knows
that it does, it goes on."""

import time

import pytest

from ingest_svc.leases import Lease
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until


class LapsedLease(Lease):
    """`waiting` says how often somebody waits for it."""

    def __init__(self) -> None:
        super().__init__(1, 10**6, time.monotonic())
        self.waiting = 0
        self.lapse()

    def lapse(self) -> None:
        self.extended(time.monotonic() - self.seconds)

    async def until_held(self) -> None:
        self.waiting += not self.held
        await super().until_held()


@pytest.fixture
def lease(harness: IngestHarness) -> LapsedLease:
    harness.lease = found = LapsedLease()
    return found


@pytest.mark.parametrize("content", [jpeg("a photo"), b"no photo"])
async def test_nothing_is_announced_while_the_lease_has_lapsed(
    harness: IngestHarness, lease: LapsedLease, content: bytes
) -> None:
    async with harness.running():
        harness.drop("door/a.jpg", content)
        await until(lambda: lease.waiting or harness.bus.attempts)
        assert harness.bus.attempts == 0
        lease.extended(time.monotonic())
        await until(lambda: harness.idle)
    assert [*harness.paths, *harness.rejected] == ["door/a.jpg"]


async def test_an_original_is_not_removed_when_the_lease_has_lapsed_since(
    harness: IngestHarness, lease: LapsedLease
) -> None:
    harness.settings["ingest_originals"] = "take"
    lease.extended(time.monotonic())
    async with harness.running():
        harness.bus.open.clear()
        photo = harness.drop("door/a.jpg", jpeg("a photo"))
        await until(lambda: harness.bus.attempts)
        lease.lapse()
        harness.bus.open.set()
        await until(lambda: lease.waiting or not photo.exists())
        assert photo.exists()
        lease.extended(time.monotonic())
        await until(lambda: not photo.exists())


async def test_an_original_that_the_store_knows_is_not_removed_while_the_lease_has_lapsed(
    harness: IngestHarness, lease: LapsedLease
) -> None:
    harness.settings["ingest_originals"] = "take"
    photo = harness.drop("door/a.jpg", jpeg("a photo"))
    harness.known_files.add(harness.root, "door/a.jpg")
    await harness.blobs.put(photo)
    async with harness.running():
        await until(lambda: lease.waiting or not photo.exists())
        assert photo.exists()
        lease.extended(time.monotonic())
        await until(lambda: not photo.exists())


def test_a_lease_that_was_lost_is_never_held_again() -> None:
    lease = Lease(1, 10.0, time.monotonic())
    assert lease.held
    lease.lose()
    lease.extended(time.monotonic())
    assert not lease.held
