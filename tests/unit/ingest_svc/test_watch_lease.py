"""A watcher that does not know whether it still holds its lease announces and removes nothing. When it knows
that it does, it goes on."""

import pytest

from ingest_svc.leases import Lease
from mesh.lease_clock import lease_time
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.suspension import Suspension
from tests.support.waiting import until


class LapsedLease(Lease):
    """`waiting` says how often somebody waits for it."""

    def __init__(self) -> None:
        super().__init__(1, 10**6, lease_time())
        self.waiting = 0
        self.lapse()

    def lapse(self) -> None:
        self.extended(lease_time() - self.seconds)

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
        lease.extended(lease_time())
        await until(lambda: harness.idle)
    assert [*harness.paths, *harness.rejected] == ["door/a.jpg"]


async def test_an_original_is_not_removed_when_the_lease_has_lapsed_since(
    harness: IngestHarness, lease: LapsedLease
) -> None:
    harness.settings["ingest_originals"] = "take"
    lease.extended(lease_time())
    async with harness.running():
        harness.bus.open.clear()
        photo = harness.drop("door/a.jpg", jpeg("a photo"))
        await until(lambda: harness.bus.attempts)
        lease.lapse()
        harness.bus.open.set()
        await until(lambda: lease.waiting or not photo.exists())
        assert photo.exists()
        lease.extended(lease_time())
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
        lease.extended(lease_time())
        await until(lambda: not photo.exists())


def test_a_lease_that_was_lost_is_never_held_again() -> None:
    lease = Lease(1, 10.0, lease_time())
    assert lease.held
    lease.lose()
    lease.extended(lease_time())
    assert not lease.held


def test_a_lease_is_over_after_its_time_also_if_the_machine_was_suspended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suspension = Suspension(monkeypatch)
    lease = Lease(1, 1000.0, lease_time())
    suspension.seconds = 400.0
    assert lease.held
    suspension.seconds = 1000.0
    assert not lease.held
    assert not lease.lost  # the store has not said so yet
