"""What ingest_svc relies on in the store's LeaseService and UploadService. The store itself, on a real
PostgreSQL, and the fake that the tests of ingest_svc use pass the same suite."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.duration_pb2 import Duration

from lares.store.internal.v1 import lease_service_pb2 as leases_pb
from lares.store.internal.v1 import upload_service_pb2 as pb
from lares.store.internal.v1.lease_service_pb2_grpc import (
    LeaseServiceStub,
    add_LeaseServiceServicer_to_server,
)
from lares.store.internal.v1.upload_service_pb2_grpc import (
    UploadServiceStub,
    add_UploadServiceServicer_to_server,
)
from mesh.problems import Conflict, Exhausted, Invalid
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from store_svc.api.leases import LeaseServicer
from store_svc.api.uploads import UploadServicer
from store_svc.database import open_database
from store_svc.leases import LeaseTable
from store_svc.uploads import UploadTable
from tests.support.fake_leases import FakeUploadService, add_fake_leases
from tests.support.parts import MIGRATED, fresh_database
from tests.support.waiting import until_async

LONG, SHORT = 600.0, 0.2
SHA = "ab" * 32


@dataclass
class Served:
    leases: Any
    uploads: Any
    # One of them.
    fake: FakeUploadService | None = None
    url: str = ""

    async def take(self, name: str = "a", holder: str = "one", seconds: float = LONG) -> tuple[int, str]:
        request = leases_pb.TakeLeaseRequest(name=name, holder=holder, length=length(seconds))
        answer = await call(self.leases.TakeLease, request)
        return answer.token, answer.holder

    async def extend(self, *tokens: int) -> list[int]:
        answer = await call(self.leases.ExtendLeases, leases_pb.ExtendLeasesRequest(tokens=tokens))
        return sorted(answer.tokens)

    async def begin(self, sha256: str = SHA, size: int = 100, **fields: Any) -> pb.BeginUploadResponse:
        request: dict[str, Any] = {
            "caller_id": "key",
            "camera_id": "porch",
            "quota_bytes": 1000,
            "holder": "one",
            "lease_length": length(LONG),
        }
        request |= fields
        return await call(
            self.uploads.BeginUpload,
            pb.BeginUploadRequest(sha256=sha256, size_bytes=size, **request),
        )

    async def add(self, token: int, start: int, size: int, name: str = "") -> None:
        part = pb.UploadPart(name=name or f"{start:x}-{token:x}", size_bytes=size)
        request = pb.AddUploadPartRequest(lease_token=token, start=start, part=part)
        await call(self.uploads.AddUploadPart, request)

    async def end(self, token: int, keep: bool = True) -> None:
        await call(self.uploads.EndUpload, pb.EndUploadRequest(lease_token=token, keep=keep))

    async def kept(self, arrived: int, sha256: str = SHA, **fields: Any) -> pb.BeginUploadResponse:
        """An upload of which so much has arrived, and which nobody goes on with."""
        begun = await self.begin(sha256, **fields)
        await self.add(begun.lease_token, 0, arrived)
        await self.end(begun.lease_token)
        return begun

    async def find(self, sha256: str = SHA, caller: str = "key", camera: str = "porch") -> Any:
        request = pb.FindUploadRequest(caller_id=caller, camera_id=camera, sha256=sha256)
        return await call(self.uploads.FindUpload, request)

    async def expire(self, *ids: str) -> set[str]:
        answer = await call(self.uploads.ExpireUploads, pb.ExpireUploadsRequest(upload_ids=ids))
        return set(answer.upload_ids)

    async def age(self, id: str, by: timedelta) -> None:
        """Makes it as if nothing had arrived of an upload for so long."""
        if self.fake is not None:
            (upload,) = (upload for upload in self.fake.uploads if upload.id == id)
            upload.written_at -= by.total_seconds()
            return
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        await connection.execute(
            "UPDATE uploads SET written_at = written_at - $1::interval WHERE id = $2", by, id
        )
        await connection.close()


def length(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


@pytest.fixture(params=["fake", "real"])
async def store(
    request: pytest.FixtureRequest, postgres_server: str, tmp_path: Path
) -> AsyncIterator[Served]:
    server, fake, url = GrpcServer(CallInterceptor), None, ""
    async with AsyncExitStack() as stack:
        if request.param == "fake":
            fake = FakeUploadService()
            add_fake_leases(server, fake)
        else:
            url = await stack.enter_async_context(fresh_database(postgres_server, MIGRATED))
            database = await stack.enter_async_context(open_database(url))
            package = "lares.store.internal.v1"
            leases, uploads = LeaseServicer(LeaseTable(database)), UploadServicer(UploadTable(database))
            server.add(add_LeaseServiceServicer_to_server, leases, f"{package}.LeaseService")
            server.add(add_UploadServiceServicer_to_server, uploads, f"{package}.UploadService")
        address = await server.listen(f"unix:{tmp_path}/grpc.sock", door=Door.SIBLINGS)
        await server.start()
        channels = Channels({}, {"store": address})
        channel = channels.to("store")
        with as_itself():
            yield Served(LeaseServiceStub(channel), UploadServiceStub(channel), fake, url)
        await channels.close()
        await server.stop(0)


# Leases


async def test_a_lease_has_one_holder(store: Served) -> None:
    token, holder = await store.take("a", "one")
    assert token > 0
    assert holder == "one"
    assert await store.take("a", "two") == (0, "one")
    assert (await store.take("b", "two"))[0] > token


async def test_the_holder_of_a_lease_may_take_it_again_because_the_answer_was_lost(store: Served) -> None:
    first, _ = await store.take("a", "one")
    again, _ = await store.take("a", "one")
    assert again > first
    assert await store.extend(first, again) == [again]


async def test_an_expired_lease_can_be_taken_and_the_one_before_is_lost(store: Served) -> None:
    first, _ = await store.take("a", "one", SHORT)

    async def taken() -> int:
        return (await store.take("a", "two"))[0]

    assert (await store.take("a", "two"))[0] == 0
    await until_async(taken)
    assert await store.extend(first) == []
    found = await call(store.leases.GetLease, leases_pb.GetLeaseRequest(name="a"))
    assert (found.holder, found.held) == ("two", True)


async def test_a_lease_is_extended_by_its_length(store: Served) -> None:
    short, _ = await store.take("a", "one", SHORT)
    other, _ = await store.take("b", "one", LONG)
    for _ in range(4):
        await asyncio.sleep(SHORT / 2)
        assert await store.extend(short, other, 10**9) == [short, other]
        assert await store.take("a", "two") == (0, "one")


async def test_an_expired_lease_that_nobody_took_is_extended(store: Served) -> None:
    token, _ = await store.take("a", "one", SHORT)

    async def over() -> bool:
        found = await call(store.leases.GetLease, leases_pb.GetLeaseRequest(name="a"))
        return not found.held

    await until_async(over)
    assert await store.extend(token) == [token]
    assert await store.take("a", "two") == (0, "one")


async def test_a_lease_that_ended_is_free_at_once_and_not_extended_by_a_late_call(store: Served) -> None:
    token, _ = await store.take("a", "one")
    await call(store.leases.EndLeases, leases_pb.EndLeasesRequest(tokens=[token]))
    assert await store.extend(token) == []
    found = await call(store.leases.GetLease, leases_pb.GetLeaseRequest(name="a"))
    assert (found.holder, found.held) == ("one", False)
    assert (await store.take("a", "two"))[0] > token
    assert await call(store.leases.GetLease, leases_pb.GetLeaseRequest(name="b")) == (
        leases_pb.GetLeaseResponse()
    )


async def test_of_many_who_take_a_lease_at_once_one_gets_it(store: Served) -> None:
    answers = await asyncio.gather(*(store.take("a", str(number)) for number in range(20)))
    assert len([token for token, _ in answers if token]) == 1


# Uploads


async def test_an_upload_goes_on_where_it_ended(store: Served) -> None:
    begun = await store.begin()
    assert (list(begun.parts), list(begun.forgotten_ids)) == ([], [])
    await store.add(begun.lease_token, 0, 30)
    await store.add(begun.lease_token, 30, 20)
    assert (await store.find()).received_bytes == 50
    await store.end(begun.lease_token)
    found = await store.find()
    assert found.received_bytes == 50
    day = begun.arrived_at.ToDatetime() + timedelta(days=1)
    assert abs(found.expires_at.ToDatetime() - day) < timedelta(minutes=1)
    again = await store.begin(offset=50, holder="two")
    assert (again.upload_id, again.arrived_at) == (begun.upload_id, begun.arrived_at)
    assert [(part.name, part.size_bytes) for part in again.parts] == [
        (f"0-{begun.lease_token:x}", 30),
        (f"1e-{begun.lease_token:x}", 20),
    ]
    await store.add(again.lease_token, 50, 50)
    await store.end(again.lease_token, keep=False)
    assert (await store.find()).received_bytes == 0
    assert not (await store.find()).HasField("expires_at")


async def test_one_of_two_receives_an_upload(store: Served) -> None:
    await store.kept(30)
    answers = await asyncio.gather(
        *(store.begin(offset=30, holder=f"{n}") for n in range(8)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) == 7
    assert {type(problem) for problem in refused} == {Exhausted}
    assert {problem.reason for problem in refused if isinstance(problem, Exhausted)} == {"UPLOAD_IN_PROGRESS"}


async def test_whoever_was_too_slow_is_told_that_another_goes_on(store: Served) -> None:
    slow = await store.begin(lease_length=length(SHORT))
    await store.add(slow.lease_token, 0, 30)

    taken = list[pb.BeginUploadResponse]()

    async def taken_over() -> bool:
        with suppress(Exhausted):
            taken.append(await store.begin(offset=30, holder="two"))
        return bool(taken)

    await until_async(taken_over)
    token = slow.lease_token
    reserve = pb.ReserveUploadRequest(lease_token=token, size_bytes=1, quota_bytes=9)
    for late in (
        store.add(token, 30, 10),
        call(store.uploads.ReserveUpload, reserve),
        call(store.uploads.NameUpload, pb.NameUploadRequest(lease_token=token, sha256=SHA)),
    ):
        with pytest.raises(Conflict) as raised:
            await late
        assert raised.value.reason == "UPLOAD_TAKEN_OVER"
    await store.end(token, keep=False)
    await store.add(taken[0].lease_token, 30, 10)
    assert (await store.find()).received_bytes == 40


async def test_a_part_that_is_added_again_counts_once(store: Served) -> None:
    begun = await store.begin()
    for _ in range(2):
        await store.add(begun.lease_token, 0, 30, "a")
        await store.add(begun.lease_token, 30, 20, "b")
    assert (await store.find()).received_bytes == 50
    with pytest.raises(Conflict):
        await store.add(begun.lease_token, 30, 20, "c")


@pytest.mark.parametrize("offset", [1, 29, 31])
async def test_a_wrong_offset_is_told_the_right_one(store: Served, offset: int) -> None:
    with pytest.raises(Conflict) as raised:
        await store.begin(offset=offset)
    assert (raised.value.reason, raised.value.metadata) == ("OFFSET_MISMATCH", {"received_bytes": "0"})
    await store.kept(30)
    with pytest.raises(Conflict) as raised:
        await store.begin(offset=offset)
    assert raised.value.metadata == {"received_bytes": "30"}
    assert (await store.find()).received_bytes == 30


async def test_an_upload_that_begins_anew_forgets_its_parts_and_not_when_it_arrived(store: Served) -> None:
    first = await store.kept(30)
    again = await store.begin()
    assert again.upload_id != first.upload_id
    assert (list(again.forgotten_ids), list(again.parts)) == ([first.upload_id], [])
    assert again.arrived_at == first.arrived_at
    assert (await store.find()).received_bytes == 0


async def test_uploads_belong_to_a_key_a_camera_and_a_content(store: Served) -> None:
    await store.kept(30)
    found = [
        (await store.find("cd" * 32)).received_bytes,
        (await store.find(caller="other")).received_bytes,
        (await store.find(camera="garden")).received_bytes,
    ]
    assert found == [0, 0, 0]


async def test_a_camera_has_a_quota(store: Served) -> None:
    first = await store.kept(300, "01" * 32)
    arriving = await store.begin("02" * 32, size=600)
    with pytest.raises(Exhausted) as raised:
        await store.begin("03" * 32, size=101)
    assert raised.value.reason == "UPLOAD_QUOTA"
    assert raised.value.metadata == {
        "camera_id": "porch",
        "needed_bytes": "101",
        "used_bytes": "900",
        "quota_bytes": "1000",
    }
    with pytest.raises(Exhausted):
        await store.begin("01" * 32, size=900, offset=300)
    await store.begin("03" * 32, size=101, camera_id="garden")
    await store.begin("03" * 32, size=100)
    await store.end(arriving.lease_token, keep=False)
    assert (await store.begin("01" * 32, size=900, offset=300)).upload_id == first.upload_id


async def test_uploads_at_once_do_not_exceed_the_quota_together(store: Served) -> None:
    beginning = [store.begin(f"{n:02x}" * 32, size=300) for n in range(8)]
    answers = await asyncio.gather(*beginning, return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, pb.BeginUploadResponse)]) == 3


async def test_forgotten_uploads_give_way_the_oldest_first(store: Served) -> None:
    old = [await store.kept(300, f"{n:02x}" * 32) for n in range(3)]
    for upload, hours in zip(old, (3, 2, 0.5), strict=True):
        await store.age(upload.upload_id, timedelta(hours=hours))
    with pytest.raises(Exhausted):
        await store.begin("0a" * 32, size=1001)
    begun = await store.begin("0a" * 32, size=400)
    assert list(begun.forgotten_ids) == [old[0].upload_id]
    more = pb.ReserveUploadRequest(lease_token=begun.lease_token, size_bytes=700, quota_bytes=1000)
    answer = await call(store.uploads.ReserveUpload, more)
    assert list(answer.forgotten_ids) == [old[1].upload_id]
    more.size_bytes = 701
    with pytest.raises(Exhausted):
        await call(store.uploads.ReserveUpload, more)
    assert (await store.find("02" * 32)).received_bytes == 300


async def test_uploads_expire_unless_somebody_goes_on_with_them(store: Served) -> None:
    expired, kept = await store.kept(300, "01" * 32), await store.kept(300, "02" * 32)
    arriving = await store.begin("03" * 32)
    undeclared = await store.begin("")
    left_over = await store.begin("", lease_length=length(0.001))
    for upload in (expired, arriving):
        await store.age(upload.upload_id, timedelta(days=1, seconds=1))
    assert (await store.find("01" * 32)).received_bytes == 0
    with pytest.raises(Conflict) as raised:
        await store.begin("01" * 32, offset=300)
    assert raised.value.metadata == {"received_bytes": "0"}
    ids = [upload.upload_id for upload in (expired, kept, arriving, undeclared, left_over)]

    async def swept() -> bool:
        return await store.expire(*ids, str(uuid4())) == {*ids[1:4]}

    await until_async(swept)
    assert (await store.find("02" * 32)).received_bytes == 300


async def test_an_undeclared_upload_is_told_when_its_content_first_arrived(store: Served) -> None:
    async def named(upload: pb.BeginUploadResponse, sha256: str = SHA) -> Any:
        request = pb.NameUploadRequest(lease_token=upload.lease_token, sha256=sha256)
        return (await call(store.uploads.NameUpload, request)).arrived_at

    first = await store.begin("")
    assert await named(first) == first.arrived_at
    other = await store.begin("")
    assert await named(other) == first.arrived_at  # while the first still arrives
    await store.end(first.lease_token)
    again = await store.begin("")
    assert again.arrived_at.ToNanoseconds() > first.arrived_at.ToNanoseconds()
    assert await named(again) == first.arrived_at
    assert await named(again, "cd" * 32) == first.arrived_at
    await store.end(again.lease_token, keep=False)
    last = await store.begin("")
    assert await named(last) == last.arrived_at


@pytest.mark.parametrize("sha256", ["AB" * 32, "ab"])
async def test_bad_requests_are_refused(store: Served, sha256: str) -> None:
    with pytest.raises(Invalid):
        await store.begin(sha256)
