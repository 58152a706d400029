"""API keys on a real PostgreSQL, and the admin key, which survives a kill at any line."""

import asyncio
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from lares.store.internal.v1.key_check_service_pb2 import (
    DIGEST_ALGORITHM_MD5,
    DIGEST_ALGORITHM_SHA256,
    VerifyDigestRequest,
    VerifyDigestResponse,
    VerifyKeyRequest,
)
from lares.store.v1.key_service_pb2 import CreateKeyRequest
from mesh.http_digest import DigestAlgorithm, user_digest
from mesh.permissions import MANAGE_KEYS, OF_A_KEY, READ, REPORT_PRESENCE, UPLOAD
from mesh.problems import Denied, Invalid, NotFound, Unauthenticated
from mesh.security import OPERATOR, Caller, digest
from mesh.telemetry.redaction import redacted
from store_svc.api.key_checks import KeyCheckServicer
from store_svc.api.keys import KeyServicer
from store_svc.api_keys import ApiKeys, ensure_admin_key
from store_svc.database import Database
from tests.support.callers import calling_as
from tests.support.store_rows import NOON, open_store_database


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_store_database(postgres_url) as database:
        yield database


@pytest.fixture
def keys(database: Database) -> Iterator[ApiKeys]:
    """As the operator uses them."""
    with calling_as(OPERATOR):
        yield ApiKeys(database, lambda: NOON)


async def test_a_new_key_opens_and_only_its_digest_is_kept(keys: ApiKeys, database: Database) -> None:
    key, secret = await keys.create("phone")
    assert (await keys.verify(digest(secret))).id == key.id
    assert key.name == "phone"
    assert not key.HasField("revoked_at")
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    assert secret not in repr(row)


@pytest.mark.parametrize(
    "name", ["a\nb", "phone\n", "\x1b]0;x\x07", "a\x7fb", "a\x85b", "\u202eenohp", " ", "\t"]
)
async def test_a_name_is_one_visible_line(keys: ApiKeys, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        await KeyServicer(keys).CreateKey(CreateKeyRequest(name=name), None)
    assert refused.value.reason == "BAD_KEY_NAME"
    assert await keys.all() == []
    made = await KeyServicer(keys).CreateKey(CreateKeyRequest(name="Zoë's phone"), None)
    assert made.key.name == "Zoë's phone"


async def test_a_key_may_do_what_it_was_created_for(keys: ApiKeys) -> None:
    whole, _ = await keys.create("admin's")
    assert set(whole.permissions) == OF_A_KEY
    phone, secret = await keys.create("phone", frozenset({REPORT_PRESENCE}))
    assert list(phone.permissions) == [REPORT_PRESENCE]
    assert (await keys.verify(digest(secret))).permissions == phone.permissions
    assert [list(key.permissions) for key in await keys.all() if key.id == phone.id] == [[REPORT_PRESENCE]]


async def test_the_key_of_a_camera_uploads_its_media_and_nothing_else(keys: ApiKeys) -> None:
    key, secret = await keys.create("the porch's", camera_id="porch")
    assert redacted(f"?key={secret}") == "?key=***"
    assert len(secret) <= 31  # which is all that some cameras have room for
    found = await keys.verify(digest(secret))
    assert (found.id, found.camera_id, list(found.permissions)) == (key.id, "porch", [UPLOAD])
    assert [(listed.name, listed.camera_id) for listed in await keys.all()] == [("the porch's", "porch")]
    for more in ({READ}, {UPLOAD, READ}, OF_A_KEY):
        with pytest.raises(Invalid) as refused:
            await keys.create("more", frozenset(more), "porch")
        assert refused.value.reason == "KEY_OF_A_CAMERA"
    with calling_as(Caller.of_key("1", "Ann", frozenset({MANAGE_KEYS}))), pytest.raises(Denied):
        await keys.create("more than its maker", camera_id="porch")
    assert len(await keys.all()) == 1


async def test_the_services_learn_whose_camera_a_key_is(keys: ApiKeys) -> None:
    servicer = KeyServicer(keys)
    made = await servicer.CreateKey(CreateKeyRequest(name="the porch's", camera_id="porch"), None)
    checked = await KeyCheckServicer(keys).VerifyKey(VerifyKeyRequest(sha256=digest(made.secret)), None)
    assert (checked.key_id, checked.camera_id, list(checked.permissions)) == (made.key.id, "porch", [UPLOAD])
    phone = await servicer.CreateKey(CreateKeyRequest(name="phone"), None)
    checked = await KeyCheckServicer(keys).VerifyKey(VerifyKeyRequest(sha256=digest(phone.secret)), None)
    assert checked.camera_id == ""


@pytest.mark.parametrize("algorithm", list(DigestAlgorithm))
async def test_an_answer_by_digest_shows_which_key_of_the_camera_was_used(
    keys: ApiKeys, algorithm: DigestAlgorithm
) -> None:
    await keys.create("everything")
    await keys.create("the yard's", camera_id="yard")
    await keys.create("the porch's first", camera_id="porch")
    key, secret = await keys.create("the porch's", camera_id="porch")
    servicer = KeyCheckServicer(keys)

    async def verify(camera_id: str, hashed: str) -> VerifyDigestResponse:
        response = algorithm.hex(user_digest(algorithm, "porch", secret), "nonce:a2")
        of_message = {
            DigestAlgorithm.MD5: DIGEST_ALGORITHM_MD5,
            DigestAlgorithm.SHA_256: DIGEST_ALGORITHM_SHA256,
        }
        request = VerifyDigestRequest(
            camera_id=camera_id, algorithm=of_message[algorithm], hashed=hashed, response=response
        )
        return await servicer.VerifyDigest(request, None)

    found = await verify("porch", "nonce:a2")
    assert (found.key_id, found.name, list(found.permissions)) == (key.id, "the porch's", [UPLOAD])
    for camera_id, hashed in (("yard", "nonce:a2"), ("porch", "nonce:another")):
        with pytest.raises(Unauthenticated):
            await verify(camera_id, hashed)
    await keys.revoke(key.id)
    with pytest.raises(Unauthenticated):
        await verify("porch", "nonce:a2")


async def test_a_key_of_an_earlier_version_may_do_everything(keys: ApiKeys, database: Database) -> None:
    _, secret = await keys.create("old", frozenset({READ}))
    async with database.connection() as connection:
        await connection.execute("UPDATE api_keys SET permissions = NULL")
    assert set((await keys.verify(digest(secret))).permissions) == OF_A_KEY


async def test_a_key_cannot_create_one_that_may_do_more(keys: ApiKeys) -> None:
    own = frozenset({READ, MANAGE_KEYS})
    with calling_as(Caller.of_key("1", "Ann", own)):
        for more in ({REPORT_PRESENCE}, {READ, UPLOAD}, OF_A_KEY):
            with pytest.raises(Denied) as refused:
                await keys.create("more", frozenset(more))
            assert refused.value.reason == "NOT_PERMITTED"
        like_itself, _ = await keys.create("like itself")
        assert set(like_itself.permissions) == own
        less, _ = await keys.create("less", frozenset({READ}))
        assert list(less.permissions) == [READ]
    assert len(await keys.all()) == 2


async def test_every_key_is_different(keys: ApiKeys) -> None:
    assert len({(await keys.create("same name"))[1] for _ in range(5)}) == 5
    assert len({key.id for key in await keys.all()}) == 5


async def test_an_unknown_key_is_refused(keys: ApiKeys) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await keys.verify(digest("lares_guessed"))
    assert refused.value.reason == "BAD_API_KEY"


async def test_a_revoked_key_is_refused_and_stays_listed(keys: ApiKeys) -> None:
    key, secret = await keys.create("old phone")
    other, other_secret = await keys.create("new phone")
    revoked = await keys.revoke(key.id)
    assert revoked.HasField("revoked_at")
    with pytest.raises(Unauthenticated) as refused:
        await keys.verify(digest(secret))
    assert refused.value.reason == "BAD_API_KEY"
    assert (await keys.verify(digest(other_secret))).id == other.id
    assert {listed.id for listed in await keys.all()} == {key.id, other.id}


async def test_revoking_again_keeps_the_first_time(keys: ApiKeys, database: Database) -> None:
    key, _ = await keys.create("phone")
    first = await keys.revoke(key.id)
    assert await ApiKeys(database, lambda: NOON.replace(year=2027)).revoke(key.id) == first


async def test_an_unknown_key_cannot_be_revoked(keys: ApiKeys) -> None:
    with pytest.raises(NotFound) as missing:
        await keys.revoke(str(uuid4()))
    assert missing.value.reason == "KEY_NOT_FOUND"


async def test_the_admin_key_is_created_once(keys: ApiKeys, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file)
    secret = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (await keys.verify(digest(secret))).name == "admin"
    await ensure_admin_key(database, file)
    assert file.read_text().strip() == secret
    assert len(await keys.all()) == 1


@pytest.mark.parametrize("lost", ["file", "row", "revoked", "emptied", "unreadable"])
async def test_the_admin_key_is_replaced_and_the_old_one_is_refused(
    keys: ApiKeys, database: Database, tmp_path: Path, lost: str
) -> None:
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file)
    old = file.read_text().strip()
    match lost:
        case "file":
            file.unlink()
        case "row":
            async with database.connection() as connection:
                await connection.execute("DELETE FROM api_keys")
        case "revoked":
            await keys.revoke((await keys.all())[0].id)
        case "emptied":
            file.write_text("")
        case "unreadable":
            file.write_bytes(b"\xff\xfe\x00")
    await ensure_admin_key(database, file)
    new = file.read_text().strip()
    assert new != old
    assert (await keys.verify(digest(new))).name == "admin"
    with pytest.raises(Unauthenticated):
        await keys.verify(digest(old))


async def test_other_keys_stay_valid_when_the_admin_key_is_replaced(
    keys: ApiKeys, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file)
    key, secret = await keys.create("admin")
    file.unlink()
    await ensure_admin_key(database, file)
    assert (await keys.verify(digest(secret))).id == key.id


async def test_an_admin_key_that_others_can_read_is_made_private(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "admin.key"
    await ensure_admin_key(database, file)
    file.chmod(0o644)
    await ensure_admin_key(database, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.usefixtures("database")
async def test_a_kill_at_any_line_leaves_a_key_that_the_next_start_completes(
    postgres_url: str, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.admin_key_kills", postgres_url, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert int(printed) > 40


async def test_replicas_leave_the_admin_key_of_each_other_alone(database: Database, tmp_path: Path) -> None:
    first, second = tmp_path / "first.key", tmp_path / "second.key"
    await asyncio.gather(*(ensure_admin_key(database, file, alone=False) for file in (first, second)))
    (made,) = [file for file in (first, second) if file.exists()]
    secret = made.read_text()
    for file in (second, first):
        await ensure_admin_key(database, file, alone=False)
    assert [file for file in (first, second) if file.exists()] == [made]
    assert made.read_text() == secret
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM api_keys") == 1
        await connection.execute("UPDATE api_keys SET revoked_at = now()")
    # One that was revoked helps nobody, so whoever starts next makes another one.
    other = second if made is first else first
    await ensure_admin_key(database, other, alone=False)
    with calling_as(OPERATOR):
        assert await ApiKeys(database, lambda: NOON).verify(digest(other.read_text().strip()))
