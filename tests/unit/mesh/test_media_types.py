from lares.ingest.v1.media_pb2 import (
    MEDIA_TYPE_JPEG,
    MEDIA_TYPE_MP4,
    MEDIA_TYPE_PNG,
    MEDIA_TYPE_UNSPECIFIED,
    MEDIA_TYPE_WEBM,
    MediaType,
)
from mesh.media_types import UNKNOWN_MIME_TYPE, browsers_play, container, is_clip, mime_type

PHOTOS = {MEDIA_TYPE_JPEG, MEDIA_TYPE_PNG}


def test_every_type_is_a_photo_or_a_clip_and_has_a_mime_type() -> None:
    types = set(MediaType.values()) - {MEDIA_TYPE_UNSPECIFIED}
    assert {value for value in types if not is_clip(value)} == PHOTOS
    assert {mime_type(value).partition("/")[0] for value in PHOTOS} == {"image"}
    assert {mime_type(value).partition("/")[0] for value in types - PHOTOS} == {"video"}
    assert len({mime_type(value) for value in types}) == len({container(value) for value in types}) + 1
    assert all(bool(container(value)) is is_clip(value) for value in types)


def test_an_unknown_type_is_bytes_that_nothing_is_known_of() -> None:
    assert mime_type(MEDIA_TYPE_UNSPECIFIED) == UNKNOWN_MIME_TYPE
    assert not is_clip(MEDIA_TYPE_UNSPECIFIED)
    assert mime_type(MEDIA_TYPE_MP4) == "video/mp4"


def test_what_browsers_play_needs_no_rendition() -> None:
    played = {(MEDIA_TYPE_MP4, "h264"), (MEDIA_TYPE_WEBM, "vp8"), (MEDIA_TYPE_WEBM, "vp9")}
    codecs = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "")
    every = {(kind, codec) for kind in MediaType.values() for codec in codecs}
    assert {each for each in every if browsers_play(*each)} == played
