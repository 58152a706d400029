"""Limits how much of the backlog is announced and not yet detected, so that it does not delay live photos.

detect_svc takes photos in the order of the log. What is announced cannot be overtaken, what still waits in
the cameras folder can.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping

import structlog

from mesh.bus import PartitionProgress
from mesh.problems import Denied, Problem
from mesh.retry import Backoff

log = structlog.get_logger(__name__)

# The most records of one partition that are announced and not yet detected when another file gets its turn.
MAX_UNDETECTED = 64
# The same for all partitions together: as many as are detected within this time, since a live photo waits for
# all of them, but at least as many as keep a detector busy.
UNDETECTED_SECONDS, MIN_WINDOW, MAX_WINDOW = 1.5, 16, 1024
# A partition may always have this many, so that one whose photos cannot be detected does not stop the others.
MIN_UNDETECTED = 8
# The speed of detection is measured over this time.
MEASURED_SECONDS = 3.0
# The most files of the backlog that are imported at a time: so few that the announcer does not collect them,
# which would let the detector wait. Live photos have the rest of what may be.
MAX_IMPORTED = 32
# How often the progress of detect_svc is asked for while files wait: less often while there is none.
PAUSE = Backoff(0.1, 2.0)
ANSWER_SECONDS = 2.0
NO_PARTITION = -1

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
        self._undetected: Mapping[int, int] | None = None  # None: unknown
        # Files that got a turn, by partition: those being imported, and those that the last answer may lack.
        self._importing: Counter[int] = Counter()
        self._uncounted: Counter[int] = Counter()
        # (when, how many records were detected by then), over MEASURED_SECONDS.
        self._detected: deque[tuple[float, int]] = deque()
        self._window = MIN_WINDOW
        self._idle_answers, self._next_question = 0, 0.0

    def pause(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        return max(0.0, self._next_question - now)

    async def refresh(self, now: float) -> None:
        """Asks how far detect_svc has come, unless that was asked just before. If there is no answer, nothing
        gets a turn."""
        if now < self._next_question:
            return
        uncounted = Counter({at: number for at, number in self._importing.items() if at != NO_PARTITION})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._progress()
        except Denied:
            raise
        except (Problem, TimeoutError) as error:
            if self._undetected is not None:
                log.warning("the backlog waits: the progress of detection is unknown", error=str(error))
            self._undetected = None
            self._idle_answers += 1
        else:
            self._uncounted = uncounted
            self._undetected = {partition: group.undone for partition, group in answer.items()}
            self._measure(now, sum(group.position for group in answer.values()))
        self._next_question = now + PAUSE.pause(self._idle_answers)

    def _measure(self, now: float, detected: int) -> None:
        moved = bool(self._detected) and detected > self._detected[-1][1]
        self._idle_answers = self._idle_answers + 1 if self._backlogged and not moved else 1
        self._detected.append((now, detected))
        while now - self._detected[0][0] > MEASURED_SECONDS and len(self._detected) > 2:
            self._detected.popleft()
        began, before = self._detected[0]
        speed = (detected - before) / max(now - began, 1.0)
        self._window = max(
            MIN_WINDOW,
            round(speed * UNDETECTED_SECONDS),
            # If all was detected before this answer, the speed shows only how little was announced.
            min(2 * self._window, MAX_WINDOW) if moved and not self._backlogged else 0,
        )

    @property
    def _backlogged(self) -> bool:
        return self._undetected is not None and any(self._undetected.values())

    def free(self, camera_id: str) -> bool:
        """Whether a file of this camera may have a turn."""
        if self._undetected is None or self._importing.total() >= MAX_IMPORTED:
            return False
        partition = self._partition(camera_id)
        of_partition = self._undetected.get(partition, 0) + self._uncounted[partition]
        of_all = sum(self._undetected.values()) + self._uncounted.total()
        most = MAX_UNDETECTED if of_all < self._window else MIN_UNDETECTED
        return of_partition < most

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
