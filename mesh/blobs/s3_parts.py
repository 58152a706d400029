"""Parts in an S3 bucket: `<prefix>/.parts/<folder>/<name>`."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import obstore

from mesh.blobs.parts import FOLDER, READ_BYTES, Parts, Run, StoredPart, part_not_found
from mesh.blobs.spool import SpooledFile
from mesh.problems import NotFound, Unavailable

# The most keys that one request removes.
REMOVED_AT_ONCE = 1000


class S3Parts(Parts):
    """`call` gives a function the bucket, awaits its result and raises the problems of `Blobs`; `keys` yields
    all keys below a prefix; `run` runs a function on a thread. `seconds` is the most that the upload of a
    part may take."""

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        keys: Callable[[str], AsyncIterator[str]],
        run: Run,
        seconds: float,
    ) -> None:
        self._call, self._keys, self._run, self._seconds = call, keys, run, seconds

    async def put(self, folder: str, name: str, spooled: SpooledFile) -> StoredPart:
        size = spooled.size
        content = await self._run(spooled.read, 0, size)
        key, put = _key(folder, name), obstore.put_async
        try:
            await self._call(lambda bucket: put(bucket, key, content), self._seconds)
        except NotFound as problem:
            raise Unavailable(problem.message, "BLOBS_UNAVAILABLE") from None
        return StoredPart(name, size)

    async def read(self, folder: str, part: StoredPart) -> AsyncGenerator[bytes, None]:
        key = _key(folder, part.name)
        try:
            if (await self._call(lambda bucket: obstore.head_async(bucket, key)))["size"] != part.size:
                raise part_not_found()
            for start in range(0, part.size, READ_BYTES):
                end = min(start + READ_BYTES, part.size)
                piece = partial(obstore.get_range_async, path=key, start=start, end=end)
                yield bytes(await self._call(piece))
        except NotFound:
            raise part_not_found() from None

    async def folders(self) -> AsyncIterator[str]:
        last = ""
        async for key in self._keys(FOLDER):  # in their order
            folder = key.split("/")[1]
            if folder != last:
                yield folder
                last = folder

    async def remove(self, folder: str) -> None:
        keys = [key async for key in self._keys(f"{FOLDER}/{folder}")]
        for first in range(0, len(keys), REMOVED_AT_ONCE):
            await self._call(partial(obstore.delete_async, paths=keys[first : first + REMOVED_AT_ONCE]))


def _key(folder: str, name: str) -> str:
    return f"{FOLDER}/{folder}/{name}"
