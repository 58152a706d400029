"""Where detect_svc goes on if the database has no offsets of it: after what the store has recorded.

Earlier versions kept these offsets in Kafka alone. They are not taken over, because anybody may have
committed them whom Kafka let join the group.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import select

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import Bus, Delivery
from mesh.topics import Topic
from store_svc.consumer_offsets import ConsumerOffsets
from store_svc.database import Database
from store_svc.database.statement import Statement, one_of
from store_svc.database.tables import media
from store_svc.ids import parse_uuid
from store_svc.times import micros

log = structlog.get_logger(__name__)

DETECT = "detect_svc"
CHUNK = 500
_RECORDED = Statement(select(media.c.id, media.c.ingested_at).where(one_of(media.c.id, "ids")))


async def ensure_detect_offsets(
    bus: Bus, database: Database, offsets: ConsumerOffsets, topic: Topic[MediaIngested]
) -> None:
    """Gives every partition of `topic` that has no offset the one after the last announcement whose
    detections are in the database.

    All announcements before it have been processed, because detect_svc publishes in their order. Some after
    it may have been processed as well, for example rejected: doing so again changes nothing.
    """
    topic_id = await bus.topic_id(topic)
    partitions = range(bus.partitions(topic))
    known = await offsets.load(DETECT, topic.name, topic_id, partitions)
    missing = set(partitions) - known.keys()
    if not missing:
        return
    chunk: list[Delivery[MediaIngested]] = []
    async with bus.tail(topic, start="beginning") as tail:
        found = {partition: at for partition, at in tail.positions().items() if partition in missing}
        async for delivery in tail.present():
            if delivery.partition in missing:
                chunk.append(delivery)
            if len(chunk) == CHUNK:
                found |= await _after_recorded(database, chunk)
                chunk.clear()
    found |= await _after_recorded(database, chunk)
    await offsets.advance(DETECT, topic.name, topic_id, found)
    log.info("offsets of detect_svc determined from what is recorded", offsets=found)


async def _after_recorded(database: Database, chunk: Sequence[Delivery[MediaIngested]]) -> dict[int, int]:
    """The offset after the last recorded announcement, by partition that has one."""
    by_id: dict[Any, list[Delivery[MediaIngested]]] = defaultdict(list)
    for delivery in chunk:
        try:
            by_id[parse_uuid(delivery.message.media.id)].append(delivery)
        except ValueError:
            continue  # cannot be recorded
    async with database.connection() as connection:
        rows = await _RECORDED.fetch(connection, ids=list(by_id))
    after: dict[int, int] = {}
    for row in rows:
        for delivery in by_id[row["id"]]:
            # A media may have been announced again since; the row has the time of the announcement that was
            # recorded.
            if micros(delivery.message.media.ingested_at) == micros(row["ingested_at"]):
                after[delivery.partition] = max(after.get(delivery.partition, 0), delivery.offset + 1)
    return after
