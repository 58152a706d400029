"""Which of a clip's frames the detector looks at: `frames/v1`. Pure: times and movement in, frames out.

A clip is looked at a few times a second. A look is a *candidate* if a while has passed since the last one, or
if something moves around it. The first frame, the last one, and one every 15 s are always chosen; the rest of
what a minute may have goes to its movement, in runs of neighbours, so that things can be followed. A short
clip in which nothing moves gets as many frames as a minute may have, evenly.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

VERSION = "frames/v1"

MINUTE_MS = 60_000
LOOK_MS = 500
# Chosen frames are never farther apart, if there are frames in between and the clip's limit allows it.
MAX_GAP_MS = 15_000
# Candidates of a clip without movement lie closer than that, so that there is always one in time.
MAX_CANDIDATE_MS = 14_000
# What the gaps come to on average, because there is no candidate at the very end of a gap.
USUAL_GAP_MS = 13_500
# Neighbouring candidates that are chosen together.
RUN = 3


class FrameSettings(NamedTuple):
    """The settings of the same names, and the side of the detector's input in pixels."""

    frame_seconds: float
    frames_per_minute: int
    max_frames: int
    motion_sensitivity: float
    motion_threshold: float
    input_side: int


@dataclass(slots=True)
class Candidate:
    """A frame that may be chosen. `movement` is the share of the picture that moved since the last look;
    `moves` whether that counts, here or at the look before or after."""

    index: int
    movement: float
    moves: bool


@dataclass(slots=True)
class LookSorter:
    """Finds the candidates among the looks at one clip. `step` is the plan's, `threshold` is
    LARES_MOTION_THRESHOLD. With the other fields of another one it goes on where that one stopped."""

    step: int
    threshold: float
    cell: int = -1  # of `step`, that of the last candidate
    after: int = 0  # so many looks more belong to the movement

    def candidates(self, looks: Sequence[tuple[int, float]]) -> list[Candidate]:
        """Of the index and the movement of each look in one minute."""
        found: list[Candidate] = []
        for at, (index, movement) in enumerate(looks):
            found += self.next(index, movement, looks[at - 1] if at else None, found[-1] if found else None)
        return found

    def next(
        self, index: int, movement: float, before: tuple[int, float] | None, last: Candidate | None
    ) -> list[Candidate]:
        """The candidates that a look adds: it, and the look `before` if it is now one, too. `last` is the
        last candidate so far. Both are None at the beginning of a minute, whose first look is always one."""
        if movement > 0 and movement >= self.threshold:
            self.after = 1 if before else RUN - 1
            added = [Candidate(index, movement, True)]
            if last is not None and before is not None and last.index == before[0]:
                last.moves = True
            elif before is not None:
                added.insert(0, Candidate(*before, True))
        elif self.after:
            self.after -= 1
            added = [Candidate(index, movement, True)]
        elif before is None or index // self.step > self.cell:
            added = [Candidate(index, movement, False)]
        else:
            return []
        self.cell = index // self.step
        return added


@dataclass(slots=True)
class FramePlan:
    """How a clip's frames are spread over its minutes. All times are in ms; `span` is that from the first
    frame to the last one.

    Without movement a frame is chosen every `gap`, of candidates that lie `step` apart. Each minute with
    movement may have `share` more, which adds up to `credit` if it is less than a run.
    """

    span: int
    gap: int
    step: int
    share: float
    left: int  # how many frames may still be chosen
    is_scarce: bool  # not all movement can have its budget
    credit: float = 0.0
    last: int | None = None  # the one chosen last

    @classmethod
    def of(cls, settings: FrameSettings, span: int, moving_minutes: int) -> Self:
        """`moving_minutes` matters only if `needs_survey`."""
        frame_ms = round(settings.frame_seconds * 1000)
        # Of a minute's frames, so many are for the time between the first one, the last one, and the first of
        # each minute.
        even = settings.frames_per_minute - 1 - minutes(span)
        gap = min(MAX_GAP_MS, max(frame_ms, -(-span // max(1, even))))
        gap = max(gap, -(-span // max(1, settings.max_frames - 2)))
        share = float(settings.frames_per_minute)
        is_scarce = needs_survey(settings, span)
        if is_scarce:
            left = settings.max_frames - 2 - span / min(gap, USUAL_GAP_MS)
            share = min(share, max(0.0, left) / max(1, moving_minutes))
        step = gap if gap < MAX_GAP_MS else frame_ms
        return cls(span, gap, min(step, MAX_CANDIDATE_MS), share, settings.max_frames, is_scarce)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def minutes(span: int) -> int:
    """Started minutes."""
    return span // MINUTE_MS + 1


def needs_survey(settings: FrameSettings, span: int) -> bool:
    """Whether a clip would exceed its limit if there were movement in all of its minutes."""
    anchors = MINUTE_MS // USUAL_GAP_MS
    return minutes(span) * (settings.frames_per_minute + anchors) > settings.max_frames


def choose(
    candidates: Sequence[Candidate], plan: FramePlan, settings: FrameSettings, next_index: int
) -> list[int]:
    """The positions of those candidates of one minute that are chosen, and counts them in `plan`.

    `next_index` is that of the first frame behind this minute; if there is none, the minute's last candidate
    is the clip's last frame.
    """
    if not candidates:
        return []
    is_end = next_index <= candidates[-1].index
    chosen: set[int] = set()
    if plan.last is None:
        chosen.add(0)
    if is_end:
        chosen.add(len(candidates) - 1)
    minute = _Minute(candidates, plan, next_index)
    # What the rest of the clip needs for its gaps.
    reserve = (plan.span - candidates[-1].index) // min(plan.gap, USUAL_GAP_MS) + (1 if is_end else 2)
    budget = 0
    if any(one.moves for one in candidates):
        plan.credit = min(plan.credit + plan.share, settings.frames_per_minute)
        if plan.credit >= min(RUN, settings.frames_per_minute):
            budget = max(0, min(int(plan.credit), plan.left - reserve - len(chosen)))
        moving = minute.movement(budget)
        plan.credit -= len(moving - chosen)
        chosen |= moving
        # What is left of the minute's budget is for the time in which nothing moves.
        spare, stretch = budget - len(chosen), candidates[-1].index - candidates[0].index
        if spare > 0 and plan.gap < MAX_GAP_MS:
            chosen |= minute.filled(chosen, max(plan.gap, stretch // spare), spare)
        chosen |= minute.filled(chosen, max(MAX_GAP_MS, plan.gap), plan.left - len(chosen))
    else:
        chosen |= minute.filled(chosen, plan.gap, plan.left - len(chosen))
    kept = _within(sorted(chosen), plan.left if is_end else plan.left - 1, is_end)
    plan.left -= len(kept)
    plan.last = candidates[kept[-1]].index if kept else plan.last
    return kept


def _within(positions: list[int], limit: int, is_end: bool) -> list[int]:
    if len(positions) <= limit:
        return positions
    return positions[: limit - 1] + positions[-1:] if is_end else positions[: max(0, limit)]


class _Minute:
    def __init__(self, candidates: Sequence[Candidate], plan: FramePlan, next_index: int) -> None:
        self._candidates, self._last, self._next = candidates, plan.last, next_index
        self._indices = [one.index for one in candidates]
        # Of each gap, the part at whose end the best candidate is chosen: more choice costs frames.
        self._sure = 5 / 6 if plan.is_scarce else 2 / 3

    def movement(self, budget: int) -> set[int]:
        """At most `budget` of the candidates around which something moves: all, or else runs of RUN
        neighbours, evenly spread over the movement, where there is most of it."""
        moving = [at for at, one in enumerate(self._candidates) if one.moves]
        if len(moving) <= budget:
            return set(moving)
        # Few frames are too few for runs.
        length = RUN if budget >= RUN else 1
        runs = [run for at in moving if (run := self._run(at, length))]
        count = min(budget // length, len(runs))
        chosen: set[int] = set()
        for number in range(count):
            part = runs[number * len(runs) // count : (number + 1) * len(runs) // count]
            free = [run for run in part if chosen.isdisjoint(run)] or part
            best, *_ = sorted(free, key=lambda run: (-self._movement(run), run.start))
            chosen.update(best)
        return chosen | self._beside(chosen, moving, budget - len(chosen))

    def _run(self, at: int, length: int) -> range | None:
        run = range(at, min(at + length, len(self._candidates)))
        return run if len(run) == length and all(self._candidates[one].moves for one in run) else None

    def _movement(self, run: range) -> float:
        return sum(self._candidates[at].movement for at in run)

    def _beside(self, chosen: set[int], moving: list[int], count: int) -> set[int]:
        """Up to `count` candidates more that prolong runs, those with most movement."""
        beside = [at for at in moving if at not in chosen and {at - 1, at + 1} & chosen]
        beside.sort(key=lambda at: (-self._candidates[at].movement, at))
        return set(beside[: max(0, count)])

    def filled(self, chosen: set[int], gap: int, limit: int) -> set[int]:
        """At most `limit` candidates more, so that no gap between chosen ones is longer than `gap`."""
        added: set[int] = set()
        at = -1 if self._last is None else self._last
        for stop in [*(self._indices[position] for position in sorted(chosen)), self._next]:
            while stop - at > gap and len(added) < limit:
                position = self._best_before(at, gap)
                if position is None or self._indices[position] >= stop:
                    break
                added.add(position)
                at = self._indices[position]
            at = max(at, stop)
        return added

    def _best_before(self, at: int, gap: int) -> int | None:
        """Of the candidates in the last part of the gap behind `at`, the one with most movement, or else
        the last one within the gap, or else the first one behind it; None if there is none."""
        first, end = bisect_right(self._indices, at), bisect_right(self._indices, at + gap)
        if first >= end:
            return first if first < len(self._indices) else None
        late = range(max(first, bisect_right(self._indices, at + round(gap * self._sure))), end)
        return max(late or [end - 1], key=lambda one: (self._candidates[one].movement, one))
