"""A whole Lares whose originals lie in a bucket."""

from pathlib import Path

from tests.support.lares import running_lares
from tests.support.parts import CACHE
from tests.support.photos import person_photo
from tests.support.s3 import S3, SECRET

FOUND = "{ events(first: 5) { edges { node { status labels media { url thumbnailUrl } } } } }"


def cache_of_its_own(folder: Path) -> Path:
    """With all that was fetched already, but no photos."""
    folder.mkdir()
    for path in CACHE.iterdir():
        if path.name != "blobs":
            (folder / path.name).symlink_to(path)
    return folder


async def test_a_photo_goes_its_whole_way_by_s3(tmp_path: Path, s3: S3) -> None:
    photo = person_photo().read_bytes()
    settings = {
        "LARES_BLOBS_URL": s3.url("lares", "whole"),
        "LARES_CACHE": str(cache_of_its_own(tmp_path / "cache")),
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
        (edge,) = (await lares.graphql(FOUND))["events"]["edges"]
        assert edge["node"]["status"] == "ASSESSED"
        assert "person" in edge["node"]["labels"]
        (media,) = edge["node"]["media"]
        assert (await lares.get(media["url"])).content == photo
        part = await lares.get(media["url"], range="bytes=100-299")
        assert (part.status_code, part.content) == (206, photo[100:300])
        # What came in here need not be fetched; elsewhere it must.
        copies = [path for path in (tmp_path / "cache" / "blobs").glob("??/*") if path.is_file()]
        assert [path.read_bytes() for path in copies] == [photo]
        copies[0].unlink()
        thumbnail = await lares.get(media["thumbnailUrl"])
        assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg")
        assert copies[0].read_bytes() == photo
        assert not (lares.home / "media").exists()
        assert SECRET not in lares.log.read_text()
