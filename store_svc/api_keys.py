"""API keys. Their plain text is returned once; the store keeps their SHA-256, and of a camera's key what HTTP
digest authentication needs."""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4, uuid5

import structlog
from sqlalchemy import func, literal, null, select, update
from sqlalchemy.dialects.postgresql import insert

from lares.store.v1.key_service_pb2 import Key
from mesh.durable_files import write_private
from mesh.http_digest import DigestAlgorithm, user_digest
from mesh.identity import NAMESPACE
from mesh.permissions import OF_A_KEY, UPLOAD, Permission
from mesh.problems import Invalid, NotFound, Unauthenticated
from mesh.security import Caller, current_caller, digest, new_camera_secret, new_secret
from store_svc.database import Database
from store_svc.database.statement import Statement, equals, parameter
from store_svc.database.tables import api_keys
from store_svc.messages import key_message

log = structlog.get_logger(__name__)

# Always the same row, so that a new admin key replaces the old one.
ADMIN_ID = uuid5(NAMESPACE, "admin key")

_keys = api_keys.c
_new = {
    "id": parameter("id", _keys.id),
    "name": parameter("name", _keys.name),
    "sha256": parameter("sha256", _keys.sha256),
    "created_at": parameter("created_at", _keys.created_at),
}
_new_key = _new | {
    "permissions": parameter("permissions", _keys.permissions),
    "camera_id": parameter("camera_id", _keys.camera_id),
    "digest_md5": parameter("digest_md5", _keys.digest_md5),
    "digest_sha256": parameter("digest_sha256", _keys.digest_sha256),
}
_DIGESTS = {DigestAlgorithm.MD5: _keys.digest_md5, DigestAlgorithm.SHA_256: _keys.digest_sha256}
_CREATE = Statement(insert(api_keys).values(_new_key).returning(*_keys))
_LIST = Statement(select(api_keys).order_by(_keys.created_at, _keys.id))
_REVOKE = Statement(
    update(api_keys)
    .values(revoked_at=func.coalesce(_keys.revoked_at, parameter("now", _keys.revoked_at)))
    .where(equals(_keys.id, "key_id"))
    .returning(*_keys)
)
_FIND = Statement(select(api_keys).where(equals(_keys.sha256, "sha256"), _keys.revoked_at.is_(None)))
_FIND_OF_CAMERA = Statement(
    select(api_keys).where(
        equals(_keys.camera_id, "camera_id"), _keys.digest_md5.is_not(None), _keys.revoked_at.is_(None)
    )
)


def _set_admin(*, replace: bool) -> Statement:
    """Makes or changes the admin key; one that is valid only with `replace`. Returns its id if it did."""
    return Statement(
        insert(api_keys)
        .values(_new | {"id": literal(ADMIN_ID, _keys.id.type), "name": literal("admin")})
        .on_conflict_do_update(
            index_elements=[_keys.id],
            set_={
                "sha256": _new["sha256"],
                "created_at": _new["created_at"],
                "revoked_at": null(),
                "permissions": null(),
                "camera_id": null(),
                "digest_md5": null(),
                "digest_sha256": null(),
            },
            where=None if replace else _keys.revoked_at.is_not(None),
        )
        .returning(_keys.id)
    )


_REPLACE_ADMIN, _ADD_ADMIN = _set_admin(replace=True), _set_admin(replace=False)


class ApiKeys:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, name: str, permissions: frozenset[Permission] = frozenset(), camera_id: str = ""
    ) -> tuple[Key, str]:
        """Returns the key and its plain text. Without permissions, it has those of the caller; that of a
        camera has UPLOAD.

        Raises Denied (NOT_PERMITTED) if the caller is a key that lacks one of them, and Invalid
        (KEY_OF_A_CAMERA) if that of a camera would get another permission.
        """
        if camera_id:
            permissions = permissions or frozenset({UPLOAD})
            if permissions != {UPLOAD}:
                raise Invalid("the key of a camera has the permission UPLOAD alone", "KEY_OF_A_CAMERA")
        granted = _granted(current_caller(), permissions)
        secret = new_camera_secret() if camera_id else new_secret()
        async with self._database.connection() as connection:
            row = await _CREATE.fetch_one(
                connection,
                id=uuid4(),
                name=name,
                sha256=digest(secret),
                created_at=self._clock(),
                permissions=granted,
                camera_id=camera_id or None,
                digest_md5=user_digest(DigestAlgorithm.MD5, camera_id, secret) if camera_id else None,
                digest_sha256=user_digest(DigestAlgorithm.SHA_256, camera_id, secret) if camera_id else None,
            )
        assert row is not None  # an INSERT returns its row
        return key_message(row), secret

    async def all(self) -> list[Key]:
        """Oldest first, with revoked ones."""
        async with self._database.connection() as connection:
            return [key_message(row) for row in await _LIST.fetch(connection)]

    async def revoke(self, key_id: str) -> Key:
        """Does nothing to a key that is revoked already. Raises NotFound (KEY_NOT_FOUND)."""
        async with self._database.connection() as connection:
            row = await _REVOKE.fetch_one(connection, key_id=key_id, now=self._clock())
        if row is None:
            raise NotFound("there is no such key", "KEY_NOT_FOUND", key_id=key_id)
        return key_message(row)

    async def verify(self, sha256: str) -> Key:
        """Returns the key with this digest. The look-up is by digest, so its duration reveals nothing about a
        key. Raises Unauthenticated (BAD_API_KEY) if the key is unknown or revoked."""
        async with self._database.connection() as connection:
            row = await _FIND.fetch_one(connection, sha256=sha256)
        if row is None:
            raise Unauthenticated("this API key is unknown or revoked", "BAD_API_KEY")
        return key_message(row)

    async def verify_digest(
        self, camera_id: str, algorithm: DigestAlgorithm, hashed: str, response: str
    ) -> Key:
        """Returns the key of the camera with which `response` was made: the digest of the user's digest and
        `hashed`. Raises Unauthenticated (BAD_API_KEY) if there is none."""
        async with self._database.connection() as connection:
            rows = await _FIND_OF_CAMERA.fetch(connection, camera_id=camera_id)
        for row in rows:
            right = algorithm.hex(row[_DIGESTS[algorithm].name], hashed)
            if hmac.compare_digest(right.encode(), response.encode()):
                return key_message(row)
        raise Unauthenticated("no key of this camera fits", "BAD_API_KEY")


def _granted(caller: Caller, asked: frozenset[Permission]) -> list[Permission] | None:
    """What a new key gets; None stands for everything. Raises Denied (NOT_PERMITTED)."""
    own = caller.permissions if caller.kind == "key" else OF_A_KEY
    missing = sorted(asked - own)
    if missing:
        caller.require(missing[0])
    if not asked and own == OF_A_KEY:
        return None
    return sorted(asked or own)


async def ensure_admin_key(database: Database, file: Path, *, alone: bool = True) -> None:
    """Makes sure that `file` (mode 0600) contains the admin key in plain text.

    Creates a new key if the file is missing or its key is unknown or revoked. The file is written first:
    after a kill in between, the next start does not find the key in the database, and creates another one.

    Unless this process has the database `alone`, a valid admin key is left as it is: it is in the home of
    another store, and replicas would replace each other's key. This home has no admin key then.
    """
    async with database.connection() as connection:
        before = _read(file)
        if before and await _FIND.fetch_one(connection, sha256=digest(before)):
            file.chmod(0o600)
            return
        secret = new_secret()
        write_private(file, f"{secret}\n")
        change = _REPLACE_ADMIN if alone else _ADD_ADMIN
        if await change.fetch_one(connection, sha256=digest(secret), created_at=datetime.now(UTC)) is None:
            file.unlink()
            log.info("the admin key is in the home of another store; `lares keys create` makes others")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
