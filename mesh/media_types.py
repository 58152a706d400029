"""What the values of lares.ingest.v1.MediaType are: photos or clips, their MIME types and the names of their
formats."""

from lares.ingest.v1.media_pb2 import (
    MEDIA_TYPE_3GP,
    MEDIA_TYPE_AVI,
    MEDIA_TYPE_JPEG,
    MEDIA_TYPE_MATROSKA,
    MEDIA_TYPE_MP4,
    MEDIA_TYPE_MPEG_TS,
    MEDIA_TYPE_PNG,
    MEDIA_TYPE_QUICKTIME,
    MEDIA_TYPE_WEBM,
    MediaType,
)

# For types that a newer version has written.
UNKNOWN_MIME_TYPE = "application/octet-stream"

_MIME_TYPES = {
    MEDIA_TYPE_JPEG: "image/jpeg",
    MEDIA_TYPE_PNG: "image/png",
    MEDIA_TYPE_MP4: "video/mp4",
    MEDIA_TYPE_QUICKTIME: "video/quicktime",
    MEDIA_TYPE_MATROSKA: "video/x-matroska",
    MEDIA_TYPE_WEBM: "video/webm",
    MEDIA_TYPE_AVI: "video/x-msvideo",
    MEDIA_TYPE_MPEG_TS: "video/mp2t",
    MEDIA_TYPE_3GP: "video/3gpp",
}
_CONTAINERS = {
    MEDIA_TYPE_MP4: "MP4",
    MEDIA_TYPE_QUICKTIME: "QuickTime",
    MEDIA_TYPE_MATROSKA: "Matroska",
    MEDIA_TYPE_WEBM: "WebM",
    MEDIA_TYPE_AVI: "AVI",
    MEDIA_TYPE_MPEG_TS: "MPEG-TS",
    MEDIA_TYPE_3GP: "3GP",
}

_PLAYED = {MEDIA_TYPE_MP4: ("h264",), MEDIA_TYPE_WEBM: ("vp8", "vp9")}


def is_clip(media_type: MediaType.ValueType) -> bool:
    return media_type >= MEDIA_TYPE_MP4


def mime_type(media_type: MediaType.ValueType) -> str:
    return _MIME_TYPES.get(media_type, UNKNOWN_MIME_TYPE)


def container(media_type: MediaType.ValueType) -> str:
    """The name of a clip's container, for people; empty for photos."""
    return _CONTAINERS.get(media_type, "")


def browsers_play(media_type: MediaType.ValueType, video_codec: str) -> bool:
    """Whether all usual browsers play a clip as it is: H.264 in MP4, and what WebM holds except AV1. Others
    get a rendition of it. `video_codec` is FFmpeg's name."""
    return video_codec in _PLAYED.get(media_type, ())
