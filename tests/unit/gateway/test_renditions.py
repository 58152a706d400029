"""Pictures of frames, playable copies, clips and previews of events over HTTP; their paths in GraphQL."""

import io
from hashlib import sha256
from typing import Any

import pytest
from PIL import Image

from lares.detect.v1.events_pb2 import RenderedBlob, RenderFailure
from lares.ingest.v1 import media_pb2
from lares.store.v1.rendition_pb2 import (
    RENDITION_KIND_EVENT_CLIP,
    RENDITION_KIND_EVENT_PREVIEW,
    RENDITION_KIND_FRAMES,
    RENDITION_KIND_PLAYABLE,
    RENDITION_STATE_FAILED,
    RENDITION_STATE_READY,
    Rendition,
    RenditionKind,
)
from lares.store.v1.rendition_service_pb2 import RequestRenditionRequest
from mesh.problems import Exhausted
from tests.support.blobs import keep_blob
from tests.unit.gateway.conftest import Gateway, keep
from tests.unit.gateway.fake_store import uuid

PICTURES = {0: (255, 0, 0), 2000: (0, 255, 0), 4000: (0, 0, 255)}
EVENT = uuid("event", 7)


def jpeg(colour: tuple[int, int, int]) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (1280, 720), colour).save(written, "JPEG")
    return written.getvalue()


async def made(
    gateway: Gateway,
    kind: RenditionKind.ValueType,
    subject: str,
    content: bytes,
    content_type: str = "image/jpeg",
) -> Rendition:
    """Adds a rendition that is ready."""
    blob = RenderedBlob(
        sha256=await keep_blob(gateway.blobs, content), size_bytes=len(content), content_type=content_type
    )
    rendition = Rendition(
        id=uuid(kind, subject), kind=kind, subject_id=subject, state=RENDITION_STATE_READY, blob=blob
    )
    gateway.store.renditions[kind, subject] = rendition
    return rendition


async def clip_with_frames(gateway: Gateway) -> str:
    clip = gateway.store.add_clip(1, found=1).media.id
    pictures = {index: jpeg(colour) for index, colour in PICTURES.items()}
    rendition = await made(gateway, RENDITION_KIND_FRAMES, clip, b"".join(pictures.values()))
    offset = 0
    for index, picture in pictures.items():
        rendition.blob.parts.add(frame=index, offset=offset, size_bytes=len(picture))
        offset += len(picture)
    return clip


def colour_of(content: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(content)) as picture:
        pixel: Any = picture.convert("RGB").getpixel((picture.width - 5, picture.height - 5))
    return tuple(round(value / 255) * 255 for value in pixel)


async def test_a_frame_is_a_part_of_the_blob(gateway: Gateway) -> None:
    clip = await clip_with_frames(gateway)
    for index, colour in PICTURES.items():
        url, picture = f"/media/{clip}/frames/{index}", jpeg(colour)
        response = await gateway.client.get(url)
        assert (response.status_code, response.content) == (200, picture)
        headers = response.headers
        assert headers["content-type"] == "image/jpeg"
        assert headers["content-length"] == str(len(picture))
        assert headers["cache-control"] == "private, no-cache"
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["x-content-type-options"] == "nosniff"
        again = await gateway.client.get(url, headers={"if-none-match": headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        part = await gateway.client.get(url, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, picture[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(picture)}"
        tail = await gateway.client.get(url, headers={"range": "bytes=-7"})
        assert tail.content == picture[-7:]
        beyond = await gateway.client.get(url, headers={"range": f"bytes={len(picture)}-"})
        assert beyond.status_code == 416


async def test_the_poster_is_the_frame_that_shows_most(gateway: Gateway) -> None:
    clip = await clip_with_frames(gateway)
    assert (await gateway.client.get(f"/media/{clip}/poster")).content == jpeg(PICTURES[4000])


async def test_thumbnails_of_frames_have_the_boxes_of_that_frame(gateway: Gateway) -> None:
    clip = await clip_with_frames(gateway)
    plain = await gateway.client.get(f"/media/{clip}/frames/0/thumbnail")
    boxed = await gateway.client.get(f"/media/{clip}/frames/4000/thumbnail")
    for response, index in ((plain, 0), (boxed, 4000)):
        assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
        assert colour_of(response.content) == PICTURES[index]
        with Image.open(io.BytesIO(response.content)) as picture:
            assert picture.size == (640, 360)
            edge: Any = picture.convert("RGB").getpixel((64, 100))
            red, green, _ = edge
            assert (red > 150, green > 30) == (True, index == 4000)  # the left edge of a person's box
    # That of the media is that of its poster.
    assert (await gateway.client.get(f"/media/{clip}/thumbnail")).content == boxed.content


async def test_a_photo_is_its_only_frame(gateway: Gateway, photo: bytes) -> None:
    media = await keep(gateway, photo, found=1)
    thumbnail = (await gateway.client.get(f"/media/{media}/thumbnail")).content
    assert (await gateway.client.get(f"/media/{media}/frames/0")).content == photo
    assert (await gateway.client.get(f"/media/{media}/poster")).content == photo
    assert (await gateway.client.get(f"/media/{media}/frames/0/thumbnail")).content == thumbnail
    for path in ("frames/1", "frames/1/thumbnail"):
        response = await gateway.client.get(f"/media/{media}/{path}")
        assert response.status_code == 404
        assert response.json()["errors"][0]["extensions"]["reason"] == "FRAME_NOT_FOUND"
    assert gateway.store.calls["RequestRendition"] == 0


@pytest.mark.parametrize("index", ["1", "-1", "0x0", "4294967296", "9" * 500, "%C2%B2", "2000%20", "a"])
async def test_frames_that_do_not_exist(gateway: Gateway, index: str) -> None:
    clip = await clip_with_frames(gateway)
    for path in (f"frames/{index}", f"frames/{index}/thumbnail"):
        response = await gateway.client.get(f"/media/{clip}/{path}")
        assert (response.status_code, path) == (404, path)


ON_DEMAND = [
    (RENDITION_KIND_FRAMES, "/media/{clip}/frames/0"),
    (RENDITION_KIND_FRAMES, "/media/{clip}/frames/0/thumbnail"),
    (RENDITION_KIND_FRAMES, "/media/{clip}/poster"),
    (RENDITION_KIND_FRAMES, "/media/{clip}/thumbnail"),
    (RENDITION_KIND_PLAYABLE, "/media/{clip}/playable"),
    (RENDITION_KIND_EVENT_CLIP, "/events/{event}/clip"),
    (RENDITION_KIND_EVENT_PREVIEW, "/events/{event}/preview"),
]


@pytest.mark.parametrize(("kind", "path"), ON_DEMAND)
async def test_what_is_not_made_yet(gateway: Gateway, kind: RenditionKind.ValueType, path: str) -> None:
    event = gateway.store.add_event(7, photos=0, found=1)
    clip = gateway.store.add_clip(1, found=1, event_id=event.id)
    clip.media.clip.video_codec = "hevc"
    url = path.format(clip=clip.media.id, event=event.id)
    response = await gateway.client.get(url)
    assert response.status_code == 202
    assert response.json() == {"state": "WAITING", "progress": 0.0}
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"
    (request,) = [each for each in gateway.store.requests if isinstance(each, RequestRenditionRequest)]
    assert request.wait.seconds == 5
    ((key, waiting),) = gateway.store.renditions.items()
    assert key[0] == kind
    waiting.progress = 0.25
    assert (await gateway.client.get(url)).json()["progress"] == 0.25
    waiting.state = RENDITION_STATE_FAILED
    waiting.failure.CopyFrom(RenderFailure(reason="NOT_CUTTABLE", detail="MP4 has no such codec."))
    failed = await gateway.client.get(url)
    assert failed.status_code == 422
    (error,) = failed.json()["errors"]
    assert (error["message"], error["extensions"]["reason"]) == ("MP4 has no such codec.", "NOT_CUTTABLE")


async def test_too_many_are_being_made(gateway: Gateway) -> None:
    clips = [gateway.store.add_clip(n).media.id for n in (1, 2)]
    assert (await gateway.client.get(f"/media/{clips[0]}/poster")).status_code == 202
    response = await gateway.client.get(f"/media/{clips[1]}/poster")
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.json()["errors"][0]["extensions"]["reason"] == "TOO_MANY_RENDITIONS"
    assert (await gateway.client.get(f"/media/{clips[0]}/poster")).status_code == 202


async def test_another_limit_is_not_taken_for_it(gateway: Gateway) -> None:
    clip = gateway.store.add_clip(1).media.id
    gateway.store.failing["GetMedia"] = Exhausted("busy", "DATABASE_BUSY")
    assert (await gateway.client.get(f"/media/{clip}/poster")).status_code == 429


async def test_one_whose_content_is_gone_is_asked_for_again(gateway: Gateway) -> None:
    clip = await clip_with_frames(gateway)
    rendition = gateway.store.renditions[RENDITION_KIND_FRAMES, clip]
    rendition.blob.sha256 = "0" * 64
    response = await gateway.client.get(f"/media/{clip}/poster")
    assert response.status_code == 404  # the store does not know that it is gone
    assert gateway.store.calls["RequestRendition"] == 2


async def test_a_playable_copy(gateway: Gateway) -> None:
    stored = gateway.store.add_clip(1)
    stored.media.clip.video_codec = "hevc"
    content = bytes(range(200)) * 50
    await made(gateway, RENDITION_KIND_PLAYABLE, stored.media.id, content, "video/mp4")
    url = f"/media/{stored.media.id}/playable"
    response = await gateway.client.get(url)
    assert (response.content, response.headers["content-type"]) == (content, "video/mp4")
    part = await gateway.client.get(url, headers={"range": "bytes=5000-"})
    assert (part.status_code, part.content) == (206, content[5000:])


async def test_a_clip_that_browsers_play_is_its_own_playable_copy(gateway: Gateway) -> None:
    stored = gateway.store.add_clip(1)
    stored.media.sha256 = await keep_blob(gateway.blobs, b"an H.264 MP4")
    response = await gateway.client.get(f"/media/{stored.media.id}/playable")
    assert (response.content, response.headers["content-type"]) == (b"an H.264 MP4", "video/mp4")
    assert gateway.store.calls["RequestRendition"] == 0


async def test_the_clip_and_the_preview_of_an_event(gateway: Gateway) -> None:
    event = gateway.store.add_event(7, photos=0, found=1)
    gateway.store.add_clip(1, found=1, event_id=event.id)
    for path, kind, content_type in (
        ("clip", RENDITION_KIND_EVENT_CLIP, "video/mp4"),
        ("preview", RENDITION_KIND_EVENT_PREVIEW, "image/webp"),
    ):
        await made(gateway, kind, event.id, path.encode(), content_type)
        response = await gateway.client.get(f"/events/{event.id}/{path}")
        assert (response.content, response.headers["content-type"]) == (path.encode(), content_type)
        assert response.headers["etag"] == f'"{sha256(path.encode()).hexdigest()}"'
        assert response.headers["cache-control"] == "private, no-cache"  # the event may grow


async def test_what_does_not_exist(gateway: Gateway) -> None:
    photo = gateway.store.add_event(7)
    media = gateway.store.media[0].media.id
    for path in (
        f"/media/{media}/playable",
        f"/media/{uuid('unknown')}/playable",
        f"/media/{uuid('unknown')}/poster",
        "/media/nonsense/frames/0",
        f"/events/{photo.id}/clip",
        f"/events/{uuid('unknown')}/clip",
        f"/events/{uuid('unknown')}/preview",
        "/events/nonsense/preview",
        f"/events/{photo.id}",
    ):
        assert (await gateway.client.get(path)).status_code == 404, path
    assert (await gateway.client.get(f"/events/{photo.id}/preview")).status_code == 202


async def test_their_paths(gateway: Gateway) -> None:
    store = gateway.store
    shown, photos = store.add_event(7, photos=0, found=1), store.add_event(8)
    gone = store.add_event(9, photos=0, found=0)
    clip = store.add_clip(1, found=1, event_id=shown.id)
    shown.detection_count = 1
    query = "{ events { edges { node { id clipUrl previewUrl media { posterUrl playableUrl } } } } }"
    edges = (await gateway.ask(query))["events"]["edges"]
    id, photo = clip.media.id, store.media[0].media.id
    assert {edge["node"].pop("id"): edge["node"] for edge in edges} == {
        shown.id: {
            "clipUrl": f"/events/{shown.id}/clip",
            "previewUrl": f"/events/{shown.id}/preview",
            "media": [{"posterUrl": f"/media/{id}/poster", "playableUrl": f"/media/{id}"}],
        },
        photos.id: {
            "clipUrl": None,
            "previewUrl": f"/events/{photos.id}/preview",
            "media": [{"posterUrl": f"/media/{photo}/poster", "playableUrl": None}],
        },
        gone.id: {"clipUrl": None, "previewUrl": None, "media": []},
    }


@pytest.mark.parametrize(
    ("media_type", "codec", "playable"),
    [
        (media_pb2.MEDIA_TYPE_MP4, "h264", True),
        (media_pb2.MEDIA_TYPE_WEBM, "vp9", True),
        (media_pb2.MEDIA_TYPE_MP4, "hevc", False),
        (media_pb2.MEDIA_TYPE_AVI, "h264", False),
        (media_pb2.MEDIA_TYPE_MATROSKA, "h264", False),
        (media_pb2.MEDIA_TYPE_MP4, "", False),
    ],
)
async def test_which_clips_browsers_play(
    gateway: Gateway, media_type: media_pb2.MediaType.ValueType, codec: str, playable: bool
) -> None:
    stored = gateway.store.add_clip(1)
    stored.media.type, stored.media.clip.video_codec = media_type, codec
    id = stored.media.id
    shown = (await gateway.ask("query($id: ID!) { media(id: $id) { playableUrl } }", id=id))["media"]
    assert shown["playableUrl"] == (f"/media/{id}" if playable else f"/media/{id}/playable")


async def test_what_a_media_is(gateway: Gateway) -> None:
    query = """query($id: ID!) { media(id: $id) { kind durationSeconds codec frameRate rotation container
      hasAudio sizeBytes capturedAtSource } }"""
    clip, photo = gateway.store.add_clip(1, frames=3), gateway.store.add_media(2)
    clip.media.clip.rotation = 90
    clip.media.captured_at_source = media_pb2.CAPTURED_AT_SOURCE_CONTAINER_LOCAL
    assert (await gateway.ask(query, id=clip.media.id))["media"] == {
        "kind": "CLIP",
        "durationSeconds": 6.0,
        "codec": "h264",
        "frameRate": 12.5,
        "rotation": 90,
        "container": "MP4",
        "hasAudio": True,
        "sizeBytes": 1000.0,
        "capturedAtSource": "CONTAINER_LOCAL",
    }
    photo.media.captured_at_source = 99  # type: ignore[assignment]
    assert (await gateway.ask(query, id=photo.media.id))["media"] == {
        "kind": "PHOTO",
        "durationSeconds": None,
        "codec": None,
        "frameRate": None,
        "rotation": 0,
        "container": None,
        "hasAudio": False,
        "sizeBytes": 1000.0,
        "capturedAtSource": "UNKNOWN",
    }


async def test_every_source_of_a_capture_time_has_a_name(gateway: Gateway) -> None:
    media = gateway.store.add_media(1).media
    for name, number in media_pb2.CapturedAtSource.items():
        media.captured_at_source = number
        shown = (await gateway.ask("{ mediaList { edges { node { capturedAtSource } } } }"))["mediaList"]
        expected = name.removeprefix("CAPTURED_AT_SOURCE_").replace("UNSPECIFIED", "UNKNOWN")
        assert shown["edges"][0]["node"]["capturedAtSource"] == expected


async def test_frames_with_their_detections_cost_two_calls(gateway: Gateway) -> None:
    store = gateway.store
    clips = [store.add_clip(n, found=2).media.id for n in (1, 2)]
    photo = store.add_media(3, found=1).media.id
    query = """{ mediaList { edges { node { id frames { index capturedAt width height motionSignificance url
      thumbnailUrl detections { score } } } } } }"""
    edges = (await gateway.ask(query))["mediaList"]["edges"]
    frames = {edge["node"]["id"]: edge["node"]["frames"] for edge in edges}
    for clip in clips:
        assert [frame["index"] for frame in frames[clip]] == [0, 2000, 4000]
        assert [len(frame["detections"]) for frame in frames[clip]] == [0, 0, 2]
        assert frames[clip][2]["url"] == f"/media/{clip}/frames/4000"
        assert frames[clip][2]["thumbnailUrl"] == f"/media/{clip}/frames/4000/thumbnail"
        assert frames[clip][1]["motionSignificance"] == 0.25
    (only,) = frames[photo]
    assert (only["index"], only["url"], len(only["detections"])) == (0, f"/media/{photo}/frames/0", 1)
    del store.calls["VerifyKey"]
    assert store.calls == {"ListMedia": 1, "BatchListFrames": 1, "BatchListDetections": 1}


async def test_frames_of_a_clip_with_more_detections_than_a_page(gateway: Gateway) -> None:
    clip = gateway.store.add_clip(1, found=1201).media.id
    query = "query($id: ID!) { media(id: $id) { frames { detections { id } } } }"
    frames = (await gateway.ask(query, id=clip))["media"]["frames"]
    assert [len(frame["detections"]) for frame in frames] == [0, 0, 1201]
