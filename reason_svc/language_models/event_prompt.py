"""Describes an event to a language model: in as much detail as fits, but always with every detection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from reason_svc.evidence import Evidence, EvidenceDetection
from reason_svc.language_models.prompt_sanitizer import between_markers, sanitize
from reason_svc.reasoner import MAX_DETECTION_IDS
from reason_svc.rules.v1.scene import Scene, read_scene

MAX_NAME_LENGTH, MAX_LABEL_LENGTH, MAX_PAST_TIMES = 64, 40, 10
MAX_LINES = 48
# Line limits of the shortest descriptions.
LINE_LIMITS = (16, 6, 2, 1)

# The number of each photo, or frame of a clip, by capture time and media id: from 1, in order of capture.
PhotoNumbers = dict[tuple[datetime, str], int]


@dataclass(frozen=True, slots=True)
class PromptLine:
    """The detections, at least one, that one line describes."""

    label: str
    detections: tuple[EvidenceDetection, ...]


@dataclass(frozen=True, slots=True)
class EventPrompt:
    """`text` is sanitized and enclosed in markers. Its numbered lines describe `lines`, in order, from 1."""

    text: str
    lines: tuple[PromptLine, ...]

    def detection_ids(self, line_numbers: Sequence[int]) -> tuple[str, ...]:
        """Returns at most MAX_DETECTION_IDS ids of the detections that these lines describe, with some of
        each line. Numbers of lines that do not exist are ignored."""
        lines = [self.lines[n - 1] for n in line_numbers if 1 <= n <= len(self.lines)]
        share = max(1, MAX_DETECTION_IDS // max(1, len(lines)))
        ids = (detection.id for line in lines for detection in line.detections[:share])
        return tuple(dict.fromkeys(ids))[:MAX_DETECTION_IDS]


def event_prompts(evidence: Evidence) -> list[EventPrompt]:
    """Returns descriptions of the event with at most MAX_LINES lines, from the most detailed to the shortest.

    A line describes one detection; or all detections of a label in one photo; or all of a label; or, in the
    shortest ones, the last line describes all labels that have no line of their own.
    """
    scene = read_scene(evidence)
    photos = _number_photos(evidence)
    candidates = list(dict.fromkeys(_line_candidates(scene, photos)))
    short = [lines for lines in candidates if len(lines) <= MAX_LINES] or candidates[-1:]
    return [EventPrompt(_text(evidence, scene, photos, lines), lines) for lines in short]


def _photo(detection: EvidenceDetection) -> tuple[datetime, str]:
    return detection.captured_at, detection.media_id


def _number_photos(evidence: Evidence) -> PhotoNumbers:
    return {photo: number for number, photo in enumerate(sorted(set(map(_photo, evidence.detections))), 1)}


def _line_candidates(scene: Scene, photos: PhotoNumbers) -> Iterator[tuple[PromptLine, ...]]:
    def photo_and_label(detection: EvidenceDetection) -> tuple[int, str]:
        return photos[_photo(detection)], detection.label

    detections = sorted(
        (detection for detected in scene.classes for detection in detected.detections),
        key=lambda d: (*photo_and_label(d), -d.score, d.id),
    )
    yield tuple(PromptLine(detection.label, (detection,)) for detection in detections)
    yield tuple(
        PromptLine(label, tuple(same)) for (_, label), same in groupby(detections, key=photo_and_label)
    )
    labels = tuple(PromptLine(detected.label, detected.detections) for detected in scene.classes)
    yield labels
    for limit in LINE_LIMITS:
        if limit < len(labels):
            rest = labels[limit - 1 :]
            others = (detection for line in rest for detection in line.detections)
            best_first = sorted(others, key=lambda d: (-d.score, d.captured_at, d.id))
            yield (*labels[: limit - 1], PromptLine(f"other things ({len(rest)} kinds)", tuple(best_first)))


def _text(
    evidence: Evidence, scene: Scene, photos: PhotoNumbers, prompt_lines: tuple[PromptLine, ...]
) -> str:
    began = min(detection.captured_at for detection in evidence.detections)
    ended = max(detection.captured_at for detection in evidence.detections)
    local = began.astimezone(evidence.time_zone)
    is_complete = len(prompt_lines) == len(evidence.detections)
    summarised = "" if is_complete else f", summarised in {len(prompt_lines)} lines"
    lines = [
        f"camera: {sanitize(evidence.camera_name, MAX_NAME_LENGTH) or 'unnamed'}",
        f"began: {local:%A %Y-%m-%d %H:%M:%S} local time, {scene.part_of_day}",
        f"lasted: {(ended - began).total_seconds():.1f} s",
        f"photos: {len(photos)}",
        f"events of this camera in the hour before: {_history(evidence)}",
        f"detections: {len(evidence.detections)}{summarised}",
    ]
    for number, line in enumerate(prompt_lines, 1):
        lines.append(f"{number}. {_line(line, photos, began.timestamp())}")
    return between_markers(lines)


def _history(evidence: Evidence) -> str:
    latest = sorted(evidence.history, reverse=True)[:MAX_PAST_TIMES]
    times = ", ".join(f"{at.astimezone(evidence.time_zone):%H:%M}" for at in latest)
    return f"{len(evidence.history)}, last at {times}" if times else "none"


def _line(line: PromptLine, photos: PhotoNumbers, began: float) -> str:
    label = sanitize(line.label, MAX_LABEL_LENGTH) or "something"
    numbers = [photos[_photo(detection)] for detection in line.detections]
    first, last = min(numbers), max(numbers)
    seconds = [detection.captured_at.timestamp() - began for detection in line.detections]
    scores = [detection.score for detection in line.detections]
    if len(line.detections) == 1:
        return f"{label}, photo {first}, at {seconds[0]:.1f} s, certainty {scores[0]:.0%}"
    photo_count = len(set(numbers))
    where = f"photo {first}" if photo_count == 1 else f"{photo_count} photos ({first} to {last})"
    most = max(map(numbers.count, set(numbers)))
    together = f", at most {most} in one photo" if photo_count > 1 else ""
    when = (
        f"at {min(seconds):.1f} s"
        if photo_count == 1
        else f"from {min(seconds):.1f} s to {max(seconds):.1f} s"
    )
    certainty = f"certainty {min(scores):.0%} to {max(scores):.0%}"
    return f"{len(line.detections)} times {label}, {where}{together}, {when}, {certainty}"
