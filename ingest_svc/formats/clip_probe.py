"""Opens a clip, reads its header and decodes its first picture. Runs in a sandbox's child only."""

from mesh.clip_reading import OpenClip, open_clip, quarter_turns
from mesh.processes.sandbox_child import InputRefused


def probe(path: str, max_pixels: int) -> dict[str, object]:
    """What `ingest_svc.clip_probing` makes a MediaHeader of.

    Raises InputRefused with the name of a RejectionReason, as `open_clip`, and NO_PICTURE if no picture can
    be decoded.
    """
    try:
        with open_clip(path, max_pixels) as clip:
            return _probe(clip)
    except MemoryError:
        raise InputRefused("reading the clip's header takes too much memory", "CORRUPT") from None


def _probe(clip: OpenClip) -> dict[str, object]:
    first = next(clip.pictures(), None)
    if first is None:
        raise InputRefused("no picture in the clip can be decoded", "NO_PICTURE")
    header = clip.header
    return {
        "width": header.width or first.frame.width,
        "height": header.height or first.frame.height,
        "length_ms": clip.span() if header.duration_ms is None else header.duration_ms,
        "codec": header.codec,
        "frame_rate": header.frame_rate,
        "rotation": quarter_turns(first.frame) * 90,
        "has_audio": header.has_audio,
        "created": header.creation_time,
    }
