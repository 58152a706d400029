"""Blobs in an S3 bucket: `<prefix>/ab/abcdef...`, with a local cache for callers that need a file."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4
from weakref import WeakValueDictionary

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from mesh.blobs.cache import BlobCache, HeldCopy
from mesh.blobs.parts import Parts
from mesh.blobs.port import PIECE_BYTES, Blobs, not_found, require_range
from mesh.blobs.s3_parts import S3Parts
from mesh.blobs.spool import Blob, Spool, SpooledFile
from mesh.problems import Invalid, NotFound, Unavailable
from mesh.secret import ParsedSecret
from mesh.url_options import OptionForm, read_options, text

FORM = "s3://[key:secret@]bucket[/prefix][?endpoint=&region=], with a / in the secret written as %2F"
KEY = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})")
DELETING, PROBE = ".deleting", ".probe"

# Limits of a small request, of each part of a large upload, and of a connection attempt.
CALL_SECONDS, PART_SECONDS, CONNECT_SECONDS = 30.0, 60.0, 5.0
# obstore retries by itself, within these limits.
MAX_RETRIES, RETRY_SECONDS = 3, 15.0
CHECK_SECONDS, FRESH_SECONDS = 2.5, 10.0
# Larger content is uploaded in parts of this size, the least that S3 accepts.
PART_BYTES = 5 * 2**20
# A deletion that takes longer than the first is given up. A deletion mark that is older than the second was
# left by a killed process.
DELETE_SECONDS, ABANDONED_MARK_SECONDS = 20.0, 40.0
MARK_POLL_SECONDS = 0.2
MAX_PUTS = 5
# Uploads at once, of which each has up to two parts in memory.
MAX_UPLOADS = 8

T = TypeVar("T")


class BucketRefused(Unavailable):
    """The server answers but refuses the request: the settings are wrong, here or on the server."""


def _endpoint(value: str) -> str:
    if not re.match(r"https?://[^/]", value):
        raise ValueError("a URL that begins with https:// or http://")
    return value


OPTIONS: dict[str, OptionForm] = {"endpoint": _endpoint, "region": text}


@dataclass(frozen=True)
class S3Bucket:
    """The parts of an `s3://` URL. For what is None, obstore reads the environment (AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and so on)."""

    name: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    key: str | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "S3Bucket":
        """Raises Invalid BAD_SETTING, without repeating the secret."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise _bad_setting(f"expected {FORM}") from None
        credentials, at, name = parts.netloc.rpartition("@")
        key, _, secret = credentials.partition(":")
        # This also refuses a secret with an unescaped / or ?: then the colon before it is part of the name.
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name) or (at and not (key and secret)):
            raise _bad_setting(f"expected {FORM}")
        try:
            options = read_options(parts.query, OPTIONS, quote=False)
        except ValueError as error:
            raise _bad_setting(f"{error}; expected {FORM}") from None
        return cls(
            name,
            unquote(parts.path).strip("/"),
            key=unquote(key) or None,
            secret=unquote(secret) or None,
            **options,
        )


def open_store(url: str) -> S3Store:
    """Sends no request yet. Raises Invalid BAD_SETTING."""
    bucket = S3Bucket.parse(url)
    config: dict[str, Any] = {
        "endpoint": bucket.endpoint,
        "region": bucket.region,
        "access_key_id": bucket.key,
        "secret_access_key": bucket.secret,
    }
    try:
        return S3Store(
            bucket.name,
            prefix=bucket.prefix or None,
            config={name: value for name, value in config.items() if value is not None},  # type: ignore[arg-type]
            client_options={
                "allow_http": bucket.endpoint is None or bucket.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "timeout": timedelta(seconds=PART_SECONDS),
            },
            retry_config={
                "max_retries": MAX_RETRIES,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {"max_backoff": timedelta(seconds=2)},
            },
        )
    except (BaseError, ValueError) as error:
        raise _bad_setting(_brief(error)) from None


class S3Blobs(Blobs):
    """S3 has no locks, so a deletion and a put of the same content detect each other.

    A deletion first marks the content, then checks its age, then deletes it. A put first puts the content,
    then waits until no mark is left, then checks whether the content is there, and otherwise puts it again.
    So either the deletion sees the new time, or the put sees the mark.
    """

    def __init__(self, bucket: ParsedSecret[S3Store], cache: BlobCache) -> None:
        super().__init__()
        self._bucket, self._cache = bucket, cache
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._last_answer = -FRESH_SECONDS

    async def prepare(self) -> None:
        await super().prepare()
        key, content = f"{PROBE}/{uuid4().hex}", uuid4().bytes
        try:
            await self._call(lambda bucket: obstore.put_async(bucket, key, content))
            read = await self._call(
                lambda bucket: obstore.get_range_async(bucket, key, start=0, end=len(content))
            )
            await self._call(lambda bucket: obstore.delete_async(bucket, key))
        except (BucketRefused, NotFound) as problem:
            raise _bad_setting(f"a probe could not be written, read and deleted: {problem.message}") from None
        if bytes(read) != content:
            raise _bad_setting("a probe was not read back as it was written")

    async def check_settings(self) -> None:
        """Raises Invalid BAD_SETTING if the server refuses the bucket or the credentials, Unavailable if it
        does not answer."""
        try:
            await self._require_bucket(CALL_SECONDS)
        except BucketRefused as problem:
            raise _bad_setting(problem.message) from None

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        try:
            held = self._cache.hold(sha256)
            if held is None:
                lock = self._fetching.setdefault(sha256, asyncio.Lock())
                async with lock:
                    held = self._cache.hold(sha256) or await self._fetch(sha256)
        except OSError as error:  # of the cache's disk, which may be full
            raise Unavailable(f"no local copy can be made: {error.strerror}", "BLOBS_UNAVAILABLE") from None
        try:
            with held:
                yield held.path
        finally:
            if self._cache.overfull:
                await asyncio.shield(self._run(self._cache.make_room, 0))

    async def open_range(self, sha256: str, start: int, end: int) -> AsyncGenerator[bytes, None]:
        require_range(start, end, await self.size(sha256))
        while start < end:
            piece = await self._piece(sha256, start, end)
            start += len(piece)
            yield piece

    async def size(self, sha256: str) -> int:
        return (await self._call(lambda bucket: obstore.head_async(bucket, _key(sha256))))["size"]

    async def list(self) -> AsyncIterator[str]:
        async for key in self._keys():
            if match := KEY.fullmatch(key):
                yield match[1]

    async def delete(self, sha256: str, older_than: datetime) -> bool:
        if not await self._is_older(sha256, older_than):
            return False
        mark = f"{DELETING}/{sha256}/{uuid4().hex}"
        try:
            async with asyncio.timeout(DELETE_SECONDS):
                await self._call(lambda bucket: obstore.put_async(bucket, mark, b""))
                if not await self._is_older(sha256, older_than):
                    return False
                await self._call(lambda bucket: obstore.delete_async(bucket, _key(sha256)))
        except TimeoutError:
            raise Unavailable(f"not deleted within {DELETE_SECONDS:g} s", "BLOBS_UNAVAILABLE") from None
        finally:
            with suppress(Unavailable):
                await asyncio.shield(self._call(lambda bucket: obstore.delete_async(bucket, mark)))
        await self._run(self._cache.remove, sha256)
        return True

    async def check(self) -> None:
        if time.monotonic() - self._last_answer >= FRESH_SECONDS:
            await self._require_bucket(CHECK_SECONDS)

    def _make_spool(self) -> Spool:
        return self._cache.make_spool()

    def _make_parts(self) -> Parts:
        return S3Parts(self._call, self._keys, self._run, PART_SECONDS)

    async def _store(self, spooled: SpooledFile) -> None:
        blob = spooled.blob
        for _ in range(MAX_PUTS):
            async with self._uploads:
                await self._upload(spooled)
            await self._wait_until_unmarked(blob.sha256)
            try:
                if await self.size(blob.sha256) == blob.size:
                    break
            except NotFound:
                pass
        else:
            raise Unavailable("the content is deleted again and again", "BLOBS_UNAVAILABLE")
        # Most content is read on the machine that has put it, so a copy is kept.
        with suppress(OSError):
            (await self._run(self._cache.add, spooled)).release()

    async def _upload(self, spooled: SpooledFile) -> None:
        blob = spooled.blob
        key = _key(blob.sha256)
        try:
            if blob.size <= PART_BYTES:
                content = await self._run(spooled.read, 0, blob.size)
                await self._call(lambda bucket: obstore.put_async(bucket, key, content), PART_SECONDS)
            else:
                parts = -(-blob.size // PART_BYTES)
                await self._call(
                    lambda bucket: obstore.put_async(
                        bucket,
                        key,
                        self._parts(spooled),
                        use_multipart=True,
                        chunk_size=PART_BYTES,
                        max_concurrency=1,
                    ),
                    PART_SECONDS * parts,
                )
        except NotFound as problem:
            raise Unavailable(problem.message, "BLOBS_UNAVAILABLE") from None

    async def _parts(self, spooled: SpooledFile) -> AsyncIterator[bytes]:
        size, start = spooled.blob.size, 0
        while start < size:
            yield await self._run(spooled.read, start, PIECE_BYTES)
            start += PIECE_BYTES

    async def _wait_until_unmarked(self, sha256: str) -> None:
        began = time.monotonic()
        while marks := [key async for key in self._keys(f"{DELETING}/{sha256}")]:
            if time.monotonic() - began > ABANDONED_MARK_SECONDS:
                await self._call(lambda bucket: obstore.delete_async(bucket, marks))
                return
            await asyncio.sleep(MARK_POLL_SECONDS)

    async def _fetch(self, sha256: str) -> HeldCopy:
        size = await self.size(sha256)
        async with self.spooled() as spooled:
            while spooled.blob.size < size:
                await self._run(spooled.write, await self._piece(sha256, spooled.blob.size, size))
            if spooled.blob != Blob(sha256, size):
                raise NotFound("this media's content is damaged", "BLOB_DAMAGED")
            return await self._run(self._cache.add, spooled)

    async def _piece(self, sha256: str, start: int, end: int) -> bytes:
        end = min(start + PIECE_BYTES, end)
        return bytes(
            await self._call(
                lambda bucket: obstore.get_range_async(bucket, _key(sha256), start=start, end=end)
            )
        )

    async def _is_older(self, sha256: str, than: datetime) -> bool:
        try:
            found = await self._call(lambda bucket: obstore.head_async(bucket, _key(sha256)))
        except NotFound:
            return False
        # The server rounds the time down to whole seconds.
        return found["last_modified"] + timedelta(seconds=1) <= than

    async def _keys(self, prefix: str | None = None) -> AsyncIterator[str]:
        pages: Any = None

        def next_page(bucket: S3Store) -> Awaitable[Sequence[Any]]:
            nonlocal pages
            # The listing of a bucket whose key was replaced goes on behind the last key that was found.
            if pages is None or pages[0] is not bucket:
                pages = bucket, obstore.list(bucket, prefix, offset=last, chunk_size=1000)
            return _next(pages[1])

        last: str | None = None
        while page := await self._call(next_page):
            for found in page:
                last = found["path"]
                yield last

    async def _require_bucket(self, seconds: float) -> None:
        """Raises Unavailable if the bucket cannot be listed within `seconds`."""
        try:
            await self._send(lambda bucket: _next(obstore.list(bucket, PROBE, chunk_size=1)), seconds)
        except FileNotFoundError as error:
            raise _unavailable(error) from None

    async def _call(self, request: Callable[[S3Store], Awaitable[T]], seconds: float | None = None) -> T:
        """Raises NotFound if the bucket exists but the key does not, otherwise Unavailable."""
        try:
            return await self._send(request, seconds or CALL_SECONDS)
        except FileNotFoundError:
            # obstore raises the same error for a missing key and a missing bucket.
            await self._require_bucket(CALL_SECONDS)
            raise not_found() from None

    async def _send(self, request: Callable[[S3Store], Awaitable[T]], seconds: float) -> T:
        """Sends the request, and once more if the bucket refuses it and the credentials have changed since.
        Raises Unavailable, and obstore's FileNotFoundError unchanged."""
        while True:
            bucket = self._bucket.value
            try:
                async with asyncio.timeout(seconds):
                    answer = await request(bucket)
            except FileNotFoundError:
                raise
            except (BaseError, OSError) as error:  # includes TimeoutError
                problem = _unavailable(error)
                if isinstance(problem, BucketRefused) and self._bucket.renewed(bucket):
                    continue
                raise problem from None
            self._last_answer = time.monotonic()
            return answer


async def _next(pages: Any) -> Sequence[Any]:
    """Returns the next page, or an empty one. `anext` with a default fails on the streams of obstore 0.12."""
    try:
        return await pages.__anext__()  # type: ignore[no-any-return]
    except StopAsyncIteration:
        return ()


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def _unavailable(error: Exception) -> Unavailable:
    status = re.search(r"status code: (\d{3})", str(error))
    refused = status is not None and status[1][0] in "34" and status[1] not in ("408", "429")
    if refused:
        return BucketRefused(f"the bucket refuses the request: {_brief(error)}", "BLOBS_UNAVAILABLE")
    return Unavailable(f"the bucket does not answer: {_brief(error)}", "BLOBS_UNAVAILABLE")


def _brief(error: Exception) -> str:
    """Shortens the server's answer to its first line and code. TimeoutError has no text at all."""
    code = re.search(r"<Code>(\w+)</Code>", str(error))
    line = str(error).partition("\n")[0].partition("<?xml")[0].strip(" :") or type(error).__name__
    return f"{line[:200]} ({code[1]})" if code else line[:200]


def _bad_setting(reason: str) -> Invalid:
    return Invalid(f"LARES_BLOBS_URL: {reason}", "BAD_SETTING")
