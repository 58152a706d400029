"""Originals and thumbnails over HTTP."""

import io
from hashlib import sha256
from pathlib import Path

import pytest
import structlog
from PIL import Image
from structlog.testing import capture_logs

from gateway.http.thumbnail_cache import ThumbnailCache
from lares.ingest.v1 import media_pb2
from mesh.problems import Internal
from tests.support.photo_variants import jpeg_metadata
from tests.unit.gateway.conftest import Gateway, keep
from tests.unit.gateway.fake_store import uuid

(TURNED,) = (each.content for each in jpeg_metadata() if each.name == "an entry that is too large first")


async def test_an_original_is_served_unchanged(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo)
    response = await gateway.client.get(f"/media/{media}")
    assert (response.status_code, response.content) == (200, photo)
    headers = response.headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["content-length"] == str(len(photo))
    assert headers["etag"] == f'"{sha256(photo).hexdigest()}"'
    assert headers["accept-ranges"] == "bytes"
    assert headers["cache-control"] == "private, max-age=31536000, immutable"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    assert "content-disposition" not in headers


async def test_the_content_type_is_that_of_the_media(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo)
    for kind, name in (
        (media_pb2.MEDIA_TYPE_PNG, "image/png"),
        (media_pb2.MEDIA_TYPE_MATROSKA, "video/x-matroska"),
        (media_pb2.MEDIA_TYPE_UNSPECIFIED, "application/octet-stream"),
    ):
        gateway.store.media[0].media.type = kind
        assert (await gateway.client.get(f"/media/{media}")).headers["content-type"] == name


async def test_head_has_headers_without_content(gateway: Gateway, photo: bytes) -> None:
    response = await gateway.client.head(f"/media/{await keep(gateway, photo)}")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(photo))


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_an_unchanged_entity_is_not_sent_again(gateway: Gateway, photo: bytes, form: str) -> None:
    media = await keep(gateway, photo)
    for path in (f"/media/{media}", f"/media/{media}/thumbnail"):
        etag = (await gateway.client.get(path)).headers["etag"]
        response = await gateway.client.get(path, headers={"if-none-match": form.format(etag)})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
        assert "cache-control" in response.headers
        response = await gateway.client.get(path, headers={"if-none-match": '"other"'})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-5", 5, 6)],
)
async def test_ranges(gateway: Gateway, photo: bytes, wanted: str, first: int, end: int | None) -> None:
    response = await gateway.client.get(f"/media/{await keep(gateway, photo)}", headers={"range": wanted})
    assert (response.status_code, response.content) == (206, photo[first:end])
    start = first % len(photo)
    last = start + len(response.content) - 1
    assert response.headers["content-range"] == f"bytes {start}-{last}/{len(photo)}"


async def test_a_range_beyond_the_end(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo)
    response = await gateway.client.get(f"/media/{media}", headers={"range": f"bytes={len(photo)}-"})
    assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(photo)}")


async def test_a_range_of_another_entity_is_ignored(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo)
    headers = {"range": "bytes=0-9", "if-range": '"other"'}
    assert (await gateway.client.get(f"/media/{media}", headers=headers)).content == photo
    headers["if-range"] = f'"{sha256(photo).hexdigest()}"'
    assert (await gateway.client.get(f"/media/{media}", headers=headers)).content == photo[:10]


@pytest.mark.parametrize("id", [uuid("unknown"), "nonsense", "..%2f..%2fadmin.key", uuid("a").upper()])
@pytest.mark.parametrize("path", ["/media/{}", "/media/{}/thumbnail"])
async def test_unknown_media_are_not_found(gateway: Gateway, id: str, path: str) -> None:
    response = await gateway.client.get(path.format(id))
    assert response.status_code == 404


async def test_a_missing_blob_is_not_found(gateway: Gateway, tmp_path: Path) -> None:
    media = gateway.store.add_media(1).media.id
    for path in (f"/media/{media}", f"/media/{media}/thumbnail"):
        response = await gateway.client.get(path)
        assert response.status_code == 404
        assert response.json()["errors"][0]["extensions"]["reason"] == "BLOB_NOT_FOUND"
        assert str(tmp_path) not in response.text


async def test_a_thumbnail_is_small_and_has_boxes(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo, found=1)
    response = await gateway.client.get(f"/media/{media}/thumbnail")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    with Image.open(io.BytesIO(response.content)) as picture:
        assert picture.size == (640, 480)
        red, green, _ = picture.convert("RGB").getpixel((64, 150))  # type: ignore[misc]
        assert red > green + 60  # the left edge of a person's box
    etag = response.headers["etag"]
    gateway.store.detections.clear()
    assert (await gateway.client.get(f"/media/{media}/thumbnail")).headers["etag"] != etag


async def test_a_photo_that_cannot_be_decoded_has_no_thumbnail(gateway: Gateway) -> None:
    media = await keep(gateway, b"\xff\xd8\xff no photo at all")
    response = await gateway.client.get(f"/media/{media}/thumbnail")
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["reason"] == "NOT_DRAWABLE"


async def test_an_internal_error_is_in_the_log_with_the_id_of_its_request(
    gateway: Gateway, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise Internal("KeyError: 7", "CHILD_FAILED")

    monkeypatch.setattr(ThumbnailCache, "get", fail)
    media = await keep(gateway, photo)
    with capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        response = await gateway.client.get(f"/media/{media}/thumbnail")
    assert response.status_code == 500
    assert "KeyError" not in response.text
    (log,) = logs
    assert (log["log_level"], log["reason"], log["message"]) == ("error", "CHILD_FAILED", "KeyError: 7")
    assert log["request_id"] == response.json()["errors"][0]["extensions"]["requestId"]
    assert log["request_id"] == response.headers["x-request-id"]


async def test_a_thumbnail_of_a_turned_photo_with_bad_metadata_is_served(gateway: Gateway) -> None:
    """tests/contract/test_photo_variants.py has the variants; this one goes to the renderer's child."""
    media = await keep(gateway, TURNED)
    response = await gateway.client.get(f"/media/{media}/thumbnail")
    assert response.status_code == 200
    with Image.open(io.BytesIO(response.content)) as picture:
        assert picture.size == (640, 400)
