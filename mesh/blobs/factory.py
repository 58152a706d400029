"""Opens the blobs that LARES_BLOBS_URL names."""

from pathlib import Path
from urllib.parse import unquote

from mesh.blobs.files import FileBlobs
from mesh.blobs.port import Blobs
from mesh.config import Config
from mesh.problems import Invalid

S3 = "s3://"


async def open_blobs(config: Config, *, used: bool = True) -> Blobs:
    """Opens `file:///folder`, `s3://bucket`, or `media/` in the home if the URL is empty. The caller closes
    the result.

    With `used`, checks that a bucket answers. Raises Invalid BAD_SETTING, Unavailable.
    """
    if config.blobs_url.startswith(S3):
        from mesh.blobs.cache import BlobCache
        from mesh.blobs.s3 import S3Blobs, open_store

        cache = BlobCache(config.cache / "blobs", config.blobs_cache_bytes)
        blobs = S3Blobs(config.secret("blobs_url").parsed(open_store), cache)
        if used:
            try:
                await blobs.check_settings()
            except BaseException:
                blobs.close()
                raise
        return blobs
    folder = blob_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"LARES_BLOBS_URL: cannot create {folder}: {error.strerror}", "BAD_SETTING") from None
    return FileBlobs(folder)


def blob_folder(config: Config) -> Path:
    """The folder of the blobs, if they are not in a bucket."""
    url = config.blobs_url
    return Path(unquote(url.removeprefix("file://"))) if url else config.home / "media"
