"""The detectors that have reported, and whether the one in use can find what is watched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from lares.detect.v1.detection_pb2 import DetectorModel
from mesh.config import setting
from mesh.problems import Unavailable
from store_svc.database import Database
from store_svc.domain.watch_policy import ModelThresholds, WatchSettings, unknown_labels

LOOK_AGAIN = timedelta(minutes=1)

_LATEST = """
SELECT id, labels, threshold, fast_threshold FROM detectors ORDER BY reported_at DESC LIMIT 1
"""
_ONE = "SELECT id, labels, threshold, fast_threshold FROM detectors WHERE id = ANY($1::text[])"
# Two that write down several detectors in another order would wait for each other. Readers do not wait.
_LOCK = "LOCK TABLE detectors IN SHARE ROW EXCLUSIVE MODE"
# Later than all others, wherever the clock stands.
_REPORT = """
INSERT INTO detectors (id, labels, threshold, fast_threshold, reported_at)
SELECT $1, $2::text[], $3::float8, $4::float8,
    greatest($5::timestamptz, max(reported_at) + interval '1 microsecond')
FROM detectors
ON CONFLICT (id) DO UPDATE SET labels = excluded.labels, threshold = excluded.threshold,
    fast_threshold = excluded.fast_threshold, reported_at = excluded.reported_at
"""


@dataclass(frozen=True, slots=True)
class KnownDetector:
    """`id`: name and weights digest; `labels`: all that it can find."""

    id: str
    labels: tuple[str, ...]
    thresholds: ModelThresholds


class Detectors:
    def __init__(self, database: Database, settings: WatchSettings) -> None:
        self._database = database
        self._settings = settings

    async def latest(self) -> KnownDetector | None:
        """The one in use: that of the latest record. None before the first record."""
        async with self._database.session() as connection:
            return await latest_detector(connection)

    async def check(self) -> None:
        """Raises Unavailable (UNKNOWN_LABEL) while the detector in use cannot find a watched label."""
        if problem := self.problem(await self.latest()):
            raise Unavailable(problem, "UNKNOWN_LABEL")

    def problem(self, detector: KnownDetector | None) -> str:
        """Which labels of the settings it cannot find, in words; empty where it can find all."""
        if detector is None:
            return ""
        unknown = unknown_labels(self._settings, detector.labels)
        if not unknown:
            return ""
        sentences = (
            f"{setting(name)}: {detector.id} cannot find {', '.join(labels)}"
            for name, labels in unknown.items()
        )
        return f"{'; '.join(sentences)}; it finds {', '.join(detector.labels)}"


class ReportedDetectors:
    """Writes down which detector is in use when that changes. What it has seen committed it looks up again
    only now and then: another process may have written down another one."""

    def __init__(self) -> None:
        self._latest: KnownDetector | None = None
        self._looked_at: datetime | None = None

    async def report(
        self, connection: "asyncpg.Connection", models: Iterable[DetectorModel], now: datetime
    ) -> None:
        """In the transaction that records what `models` found, in this order."""
        last: dict[str, DetectorModel] = {}
        for model in models:
            last.pop(model.id, None)
            last[model.id] = model
        reported = [_reported(model) for model in last.values()]
        if not reported:
            return
        fresh = self._looked_at is not None and abs(now - self._looked_at) < LOOK_AGAIN
        if fresh and reported == [self._latest]:
            return
        if reported == [await latest_detector(connection)]:
            (self._latest,), self._looked_at = reported, now
            return
        # Not remembered yet: this transaction may still come to nothing.
        await connection.execute(_LOCK)
        for one in reported:
            own = one.thresholds
            await connection.execute(
                _REPORT, one.id, list(one.labels), own.threshold, own.fast_threshold, now
            )


def _reported(model: DetectorModel) -> KnownDetector:
    thresholds = ModelThresholds(model.threshold, model.fast_threshold)
    return KnownDetector(model.id, tuple(model.labels), thresholds)


async def latest_detector(connection: "asyncpg.Connection") -> KnownDetector | None:
    row = await connection.fetchrow(_LATEST)
    return _known(row) if row else None


async def detectors_by_id(connection: "asyncpg.Connection", ids: Sequence[str]) -> dict[str, KnownDetector]:
    return {row["id"]: _known(row) for row in await connection.fetch(_ONE, list(set(ids)))}


def _known(row: "asyncpg.Record") -> KnownDetector:
    thresholds = ModelThresholds(row["threshold"], row["fast_threshold"])
    return KnownDetector(row["id"], tuple(row["labels"]), thresholds)
