"""Limits how much of the backlog is announced and not yet detected, so that it does not delay live photos.

detect_svc takes photos in the order of the log. What is announced cannot be overtaken, what still waits in
the cameras folder can.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from mesh.problems import Denied, Problem

log = structlog.get_logger(__name__)

# The most records of one partition that are announced, and their detections not yet published, when another
# file has its turn.
MAX_UNDETECTED = 64
# The most of all partitions that the detector has not done yet: as many as it does within this time, because
# a live photo waits for all of them, but at least as many as keep it busy.
UNDETECTED_SECONDS, MIN_WINDOW, MAX_WINDOW = 1.2, 16, 1024
# A clip may take as long as hundreds of photos: then as many keep the detector busy as it does within this
# time.
BUSY_SECONDS = 5.0
# A partition may always have this many, so that one whose photos cannot be detected does not stop the others.
MIN_UNDETECTED = 2
# The speed of detection is measured over this time.
MEASURED_SECONDS = 3.0
# The most files of the backlog that are imported at a time. Live photos have the rest of what may be.
MAX_IMPORTED = 32
# While files wait, the progress of detect_svc is asked for each time that this share of what may be
# undetected is detected, so that the detector always has something to do. While nothing is detected, the
# pauses grow with the time since the last progress.
ANSWERED_SHARE, MIN_PAUSE, USUAL_PAUSE = 0.25, 0.03, 0.4
IDLE_SHARE, MAX_PAUSE = 0.2, 2.0
ANSWER_SECONDS = 2.0
NO_PARTITION = -1


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Offsets in one partition: where it would stand if the records that are detected were the first ones,
    that of the first whose detections are not published, and the one that the next record will get."""

    detected: int
    published: int
    end: int

    @property
    def undetected(self) -> int:
        return max(0, self.end - self.detected)

    @property
    def unpublished(self) -> int:
        return max(0, self.end - self.published)


Progress = Callable[[], Awaitable[Mapping[int, PartitionProgress]]]


class Turns:
    """`progress` returns how far detect_svc has come, by partition; `partition` that of a camera. Times are
    monotonic seconds."""

    def __init__(
        self,
        progress: Progress,
        partition: Callable[[str], int],
    ) -> None:
        self._progress, self._partition = progress, partition
        self._answer: Mapping[int, PartitionProgress] | None = None  # None: unknown
        self._undetected = 0
        # Files that got a turn, by partition: those being imported, and those that the last answer may lack.
        self._importing: Counter[int] = Counter()
        self._uncounted: Counter[int] = Counter()
        # (when, how many records were detected by then), over MEASURED_SECONDS.
        self._detected: deque[tuple[float, int]] = deque()
        self._window, self._speed = MIN_WINDOW, 0.0
        # How many records keep the detector busy.
        self._fewest = MIN_WINDOW
        # When the last progress was seen, or that there is nothing to do.
        self._moved_at: float | None = None
        self._next_question = 0.0

    def pause(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        return max(0.0, self._next_question - now)

    async def refresh(self, now: float) -> None:
        """Asks how far detect_svc has come, unless that was asked just before. If there is no answer, nothing
        gets a turn."""
        if now < self._next_question:
            return
        if self._moved_at is None:
            self._moved_at = now
        uncounted = Counter({at: number for at, number in self._importing.items() if at != NO_PARTITION})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._progress()
        except Denied:
            raise
        except (Problem, TimeoutError) as error:
            if self._answer is not None:
                log.warning("the backlog waits: the progress of detection is unknown", error=str(error))
            self._answer = None
        else:
            self._answer, self._uncounted = answer, uncounted
            was_busy = self._undetected > 0
            self._undetected = sum(partition.undetected for partition in answer.values())
            self._measure(now, sum(partition.detected for partition in answer.values()), was_busy)
        idle = (now - self._moved_at) * IDLE_SHARE
        self._next_question = now + max(self._usual_pause, min(idle, MAX_PAUSE))

    def _measure(self, now: float, detected: int, was_busy: bool) -> None:
        """`was_busy`: at the answer before, the detector had something to do."""
        moved = bool(self._detected) and detected > self._detected[-1][1]
        if moved and was_busy and self._moved_at is not None:
            each = (now - self._moved_at) / (detected - self._detected[-1][1])
            self._fewest = max(MIN_UNDETECTED, min(MIN_WINDOW, round(BUSY_SECONDS / max(each, 0.001))))
        if moved or not self._undetected:
            self._moved_at = now
        self._detected.append((now, detected))
        while now - self._detected[0][0] > MEASURED_SECONDS and len(self._detected) > 2:
            self._detected.popleft()
        began, before = self._detected[0]
        self._speed = (detected - before) / max(now - began, 1.0)
        self._window = max(
            self._fewest,
            round(self._speed * UNDETECTED_SECONDS),
            # If all was detected before this answer, the speed shows only how little was announced.
            min(2 * self._window, MAX_WINDOW) if moved and not self._undetected else 0,
        )

    @property
    def _usual_pause(self) -> float:
        if not self._undetected:
            return MIN_PAUSE
        photos = ANSWERED_SHARE * min(self._window, MAX_UNDETECTED)
        return max(MIN_PAUSE, photos / max(self._speed, photos / USUAL_PAUSE))

    def free(self, camera_id: str) -> bool:
        """Whether a file of this camera may have a turn."""
        if self._answer is None or self._importing.total() >= MAX_IMPORTED:
            return False
        partition = self._partition(camera_id)
        progress, uncounted = self._answer[partition], self._uncounted[partition]
        if progress.unpublished + uncounted >= MAX_UNDETECTED:
            return False
        may_be_next = self._undetected + self._uncounted.total() < self._window
        return may_be_next or progress.undetected + uncounted < MIN_UNDETECTED

    @property
    def may_import(self) -> bool:
        """Whether a file that is rejected unseen, and of which detect_svc hears nothing, may have a turn."""
        return self._importing.total() < MAX_IMPORTED

    def begin(self, camera_id: str | None) -> Callable[[], None]:
        """Gives a turn to a file of this camera, or to one that is rejected unseen. The result must be called
        once the fact is announced, or if there is none."""
        partition = NO_PARTITION if camera_id is None else self._partition(camera_id)
        self._importing[partition] += 1
        if partition != NO_PARTITION:
            self._uncounted[partition] += 1

        def end() -> None:
            self._importing[partition] -= 1

        return end
