"""Makes renditions. Runs in a sandbox's child only, and loads only what a kind needs: previews of photos need
no PyAV."""

from collections.abc import Generator
from typing import Any

from detect_svc.rendering.output_file import OutputFile, Parts


def render(order: dict[str, Any], descriptor: int, max_bytes: int) -> Generator[float, None, Parts]:
    """Writes the rendition of an order (see `render_order`) into the file. Yields how much is done. Raises
    InputRefused."""
    file = OutputFile.empty(descriptor, max_bytes)
    kind, sources, max_pixels = order["kind"], order["sources"], order["max_pixels"]
    if kind == "FRAMES":
        from detect_svc.rendering.clip_frames import clip_frames

        return (yield from clip_frames(sources[0]["path"], sources[0]["frames"], max_pixels, file))
    if kind == "PLAYABLE":
        from detect_svc.rendering.playable import playable

        return (yield from playable(sources[0]["path"], max_pixels, file))
    if kind == "EVENT_CLIP":
        from detect_svc.rendering.event_clip import Span, event_clip

        return (yield from event_clip([Span(**source) for source in sources], max_pixels, file))
    from detect_svc.rendering.preview import Shot, Source, preview

    shown = [
        Source(source["path"], source["is_clip"], [Shot(*shot) for shot in source["shots"]])
        for source in sources
    ]
    return (yield from preview(shown, max_pixels, file))
