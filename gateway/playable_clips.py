"""Which clips browsers play as they are."""

from lares.ingest.v1.media_pb2 import MEDIA_TYPE_MP4, MEDIA_TYPE_WEBM, Media

# Of the containers that browsers open, the codecs that all of them decode.
PLAYED = {MEDIA_TYPE_MP4: {"h264"}, MEDIA_TYPE_WEBM: {"vp8", "vp9"}}


def is_playable(media: Media) -> bool:
    return media.clip.video_codec in PLAYED.get(media.type, ())
