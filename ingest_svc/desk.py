"""The files in hand: each is taken in once, and what was announced is not announced again."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from ingest_svc.announcing import Announcer
from ingest_svc.fingerprint import Fingerprint
from ingest_svc.intake import Intake
from ingest_svc.photo import Camera, Fact, Rejection
from ingest_svc.refusal import Refusal

MOST_IN_HAND = 64
MOST_REMEMBERED = 20_000


class Desk:
    """`changed` is told the path of a file that became another, or went, while it was in hand."""

    def __init__(self, intake: Intake, announcer: Announcer, changed: Callable[[str], None]) -> None:
        self._intake, self._announcer, self._changed = intake, announcer, changed
        self._room = asyncio.Semaphore(MOST_IN_HAND)
        self._in_hand: dict[str, Fingerprint] = {}
        self._announced: OrderedDict[str, Fingerprint] = OrderedDict()

    @property
    def pending(self) -> int:
        return self._announcer.pending

    def knows(self, file: Fingerprint) -> bool:
        """Whether it is in hand or announced, in just this state."""
        return file.same_state(self._in_hand.get(file.path)) or file.same_state(
            self._announced.get(file.path)
        )

    def forget(self, folder: str) -> None:
        """What was announced of this folder may be announced again."""
        for path in [path for path in self._announced if path.startswith(f"{folder}/")]:
            del self._announced[path]

    async def room(self) -> None:
        """Waits until `submit` may be called once."""
        await self._room.acquire()

    def submit(self, file: Fingerprint, whose: Camera | Refusal, at: float) -> None:
        """Takes the next place of its camera's line. `at`: when it was complete, monotonic seconds."""
        self._in_hand[file.path] = file
        if isinstance(whose, Camera):
            line, work = whose.id, self._intake.take(file, whose)
        else:
            line, work = file.path, _refused(file, whose)
        self._announcer.submit(line, work, begun=at, finished=lambda fact: self._finish(file, fact))

    def _finish(self, file: Fingerprint, fact: Fact | None) -> None:
        self._room.release()
        if self._in_hand.get(file.path) is file:
            del self._in_hand[file.path]
        if fact is None:
            self._changed(file.path)
            return
        self._announced[file.path] = file
        self._announced.move_to_end(file.path)
        if len(self._announced) > MOST_REMEMBERED:
            self._announced.popitem(last=False)


async def _refused(file: Fingerprint, refusal: Refusal) -> Fact:
    return Rejection("", file, refusal, datetime.now(UTC))
