"""Chooses where blobs lie, by LARES_BLOBS_URL."""

from pathlib import Path
from urllib.parse import unquote

from mesh.blobs.files import FileBlobs
from mesh.blobs.port import Blobs
from mesh.config import Config
from mesh.problems import Invalid

S3 = "s3://"


async def open_blobs(config: Config, *, used: bool = True) -> Blobs:
    """`file:///folder`, `s3://bucket`, or `media/` in the home when the URL is empty; close them at the end.
    A bucket is asked whether it answers, if it is `used`. Raises Invalid BAD_SETTING, Unavailable."""
    url = config.blobs_url
    if url.startswith(S3):
        from mesh.blobs.cache import BlobCache
        from mesh.blobs.s3 import S3Blobs, bucket_of, open_store

        blobs = S3Blobs(
            open_store(bucket_of(url)), BlobCache(config.cache / "blobs", config.blobs_cache_bytes)
        )
        if used:
            try:
                await blobs.require()
            except BaseException:
                blobs.close()
                raise
        return blobs
    folder = Path(unquote(url.removeprefix("file://"))) if url else config.home / "media"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"LARES_BLOBS_URL: cannot make {folder}: {error.strerror}", "BAD_SETTING") from None
    return FileBlobs(folder)
