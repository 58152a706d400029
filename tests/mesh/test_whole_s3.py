"""A whole Lares with its originals in a bucket."""

from hashlib import sha256
from pathlib import Path

from tests.support.lares import running_lares
from tests.support.parts import CACHE
from tests.support.photos import person_photo
from tests.support.s3 import S3, SECRET

EVENTS = "{ events(first: 5) { edges { node { status labels media { url thumbnailUrl } } } } }"


async def test_a_photo_is_processed_with_blobs_in_s3(tmp_path: Path, s3: S3) -> None:
    photo = person_photo().read_bytes()
    name = sha256(photo).hexdigest()
    copy = CACHE / "blobs" / name[:2] / name
    copy.unlink(missing_ok=True)
    settings = {
        "LARES_BLOBS_URL": s3.url("lares", "whole"),
        "LARES_EVENT_GAP_SECONDS": "1",
        "LARES_EVENT_SPAN_SECONDS": "3",
        "LARES_INGEST_ORIGINALS": "take",
    }
    async with running_lares(tmp_path / "home", settings) as lares:
        assert (await lares.get("/ready")).json()["checks"]["blobs"] is True
        original = lares.cameras / "yard" / "1.jpg"
        original.parent.mkdir()
        original.write_bytes(photo)
        await lares.until_stored(1)
        await lares.idle()
        assert not original.exists()
        (edge,) = (await lares.graphql(EVENTS))["events"]["edges"]
        assert edge["node"]["status"] == "ASSESSED"
        assert "person" in edge["node"]["labels"]
        (media,) = edge["node"]["media"]
        assert (await lares.get(media["url"])).content == photo
        part = await lares.get(media["url"], range="bytes=100-299")
        assert (part.status_code, part.content) == (206, photo[100:300])
        # Content that was put on this machine has a local copy. Without one, it is fetched.
        assert copy.read_bytes() == photo
        copy.unlink()
        thumbnail = await lares.get(media["thumbnailUrl"])
        assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")
        assert copy.read_bytes() == photo
        assert not (lares.home / "media").exists()
        assert SECRET not in lares.log.read_text()
