"""The detectors that have reported, and whether the one in use can find the watched labels."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Interval, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import insert

from lares.detect.v1.detection_pb2 import DetectorModel
from mesh.config import setting
from mesh.labels import COCO_LABELS, listed
from mesh.problems import Unavailable
from store_svc.database import Database
from store_svc.database.statement import Connection, Row, Statement, one_of, parameter
from store_svc.database.tables import TIME, detectors
from store_svc.domain.watch_policy import ModelThresholds, WatchSettings, unknown_labels

log = structlog.get_logger(__name__)

RELOAD_AFTER = timedelta(minutes=1)

_COLUMNS = (detectors.c.id, detectors.c.labels, detectors.c.threshold, detectors.c.fast_threshold)
_LATEST = Statement(select(*_COLUMNS).order_by(detectors.c.reported_at.desc()).limit(1))
_BY_ID = Statement(select(*_COLUMNS).where(one_of(detectors.c.id, "ids")))
# Two transactions that report several detectors in different orders would deadlock. Readers do not wait.
_LOCK = Statement(text("LOCK TABLE detectors IN SHARE ROW EXCLUSIVE MODE"))


def _report() -> Statement:
    # Later than all others, whatever the clock says.
    microsecond = literal_column("interval '1 microsecond'", Interval)
    reported_at = func.greatest(
        parameter("now", TIME), func.max(detectors.c.reported_at) + microsecond, type_=TIME
    )
    written = {column.name: parameter(column.name, column) for column in _COLUMNS}
    statement = insert(detectors).from_select(
        [*written, "reported_at"], select(*written.values(), reported_at).select_from(detectors)
    )
    replaced = {
        name: statement.excluded[name] for name in ("labels", "threshold", "fast_threshold", "reported_at")
    }
    return Statement(statement.on_conflict_do_update(index_elements=["id"], set_=replaced))


_REPORT = _report()


@dataclass(frozen=True, slots=True)
class KnownDetector:
    """`id` is its name and the digest of its weights; `labels` are all that it can find."""

    id: str
    labels: tuple[str, ...]
    thresholds: ModelThresholds


class Detectors:
    def __init__(self, database: Database, settings: WatchSettings) -> None:
        self._database = database
        self._settings = settings

    async def latest(self) -> KnownDetector | None:
        """The detector in use, which is that of the latest record; None before the first record."""
        async with self._database.connection() as connection:
            return await latest_detector(connection)

    async def check(self) -> None:
        """Raises Unavailable (UNKNOWN_LABEL) while the detector in use cannot find a watched label."""
        if problem := self.problem(await self.latest()):
            raise Unavailable(problem, "UNKNOWN_LABEL")

    async def warn_of_unusual_labels(self) -> None:
        """Logs which watched labels COCO does not have, as long as no detector has said what it can find."""
        if await self.latest() is None:
            for name, labels in unknown_labels(self._settings, COCO_LABELS).items():
                log.warning("these labels are not of COCO", setting=setting(name), labels=listed(labels))

    def problem(self, detector: KnownDetector | None) -> str:
        """A sentence with the labels in the settings that it cannot find; empty if it can find all."""
        if detector is None:
            return ""
        unknown = unknown_labels(self._settings, detector.labels)
        if not unknown:
            return ""
        sentences = (
            f"{setting(name)}: {detector.id} cannot find {listed(labels)}" for name, labels in unknown.items()
        )
        return f"{'; '.join(sentences)}; it finds {listed(detector.labels)}"


class DetectorRecorder:
    """Records which detector is in use when that changes. It remembers what it has read, and reads it again
    after RELOAD_AFTER, because another process may have recorded another detector."""

    def __init__(self) -> None:
        self._latest: KnownDetector | None = None
        self._loaded_at: datetime | None = None

    async def report(self, connection: Connection, models: Iterable[DetectorModel], now: datetime) -> None:
        """Belongs into the transaction that records what `models` found, in this order."""
        last: dict[str, DetectorModel] = {}
        before = None
        for model in models:
            if model.id != before:
                before = model.id
                last.pop(before, None)
            last[before] = model
        reported = [_reported(model) for model in last.values()]
        if not reported:
            return
        recent = self._loaded_at is not None and abs(now - self._loaded_at) < RELOAD_AFTER
        if recent and reported == [self._latest]:
            return
        if reported == [await latest_detector(connection)]:
            (self._latest,), self._loaded_at = reported, now
            return
        # Not remembered yet, because this transaction may be rolled back.
        await _LOCK.execute(connection)
        for one in reported:
            await _REPORT.execute(
                connection,
                id=one.id,
                labels=list(one.labels),
                threshold=one.thresholds.threshold,
                fast_threshold=one.thresholds.fast_threshold,
                now=now,
            )


def _reported(model: DetectorModel) -> KnownDetector:
    thresholds = ModelThresholds(model.threshold, model.fast_threshold)
    return KnownDetector(model.id, tuple(model.labels), thresholds)


async def latest_detector(connection: Connection) -> KnownDetector | None:
    """The detector of the latest record; None before the first record."""
    row = await _LATEST.fetch_one(connection)
    return _known(row) if row else None


async def detectors_by_id(connection: Connection, ids: Iterable[str]) -> dict[str, KnownDetector]:
    return {row["id"]: _known(row) for row in await _BY_ID.fetch(connection, ids=list(set(ids)))}


def _known(row: Row) -> KnownDetector:
    thresholds = ModelThresholds(row["threshold"], row["fast_threshold"])
    return KnownDetector(row["id"], tuple(row["labels"]), thresholds)
