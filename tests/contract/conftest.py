"""Blobs in a folder, and in a bucket of a real S3 server."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from mesh.blobs import Blobs
from tests.support.blob_location import CONTENT, BlobLocation
from tests.support.s3 import S3


@pytest.fixture(params=["file", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> BlobLocation:
    home = {"LARES_HOME": str(tmp_path / "home"), "LARES_CACHE": str(tmp_path / "cache")}
    if request.param == "file":
        folder = tmp_path / "a folder"
        return BlobLocation(home | {"LARES_BLOBS_URL": f"file://{tmp_path}/a%20folder"}, folder / ".spool")
    s3: S3 = request.getfixturevalue("s3")
    url = s3.url("lares", f"test/{uuid4().hex}")
    return BlobLocation(home | {"LARES_BLOBS_URL": url}, tmp_path / "cache" / "blobs" / ".spool")


@pytest.fixture
async def blobs(location: BlobLocation) -> AsyncIterator[Blobs]:
    async with location.open() as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path
