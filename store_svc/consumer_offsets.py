"""How far services without a database have processed their topics, as they report it."""

from collections.abc import Collection, Mapping

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert

from store_svc.database import Database
from store_svc.database.statement import Statement, one_of, parameter, unnested, unnested_values
from store_svc.database.tables import offsets

_MOVE = {"partition": offsets.c.partition, "next": offsets.c.next_offset}
_consumer, _topic = parameter("consumer", offsets.c.consumer), parameter("topic", offsets.c.topic)
_topic_id = parameter("topic_id", offsets.c.topic_id)
_LOAD = Statement(
    select(offsets.c.partition, offsets.c.next_offset).where(
        offsets.c.consumer == _consumer,
        offsets.c.topic == _topic,
        offsets.c.topic_id == _topic_id,
        one_of(offsets.c.partition, "partitions"),
    )
)


def _advance() -> Statement:
    move = unnested("move", _MOVE)
    rows = insert(offsets).from_select(
        ["consumer", "topic", "topic_id", "partition", "next_offset"],
        select(_consumer, _topic, _topic_id, move.c.partition, move.c.next).order_by(move.c.partition),
    )
    new = rows.excluded
    return Statement(
        rows.on_conflict_do_update(
            index_elements=[offsets.c.consumer, offsets.c.topic, offsets.c.partition],
            set_={"topic_id": new.topic_id, "next_offset": new.next_offset},
            where=or_(offsets.c.topic_id != new.topic_id, offsets.c.next_offset < new.next_offset),
        )
    )


_ADVANCE = _advance()


class ConsumerOffsets:
    """Shares the table with the store's own `Offsets`, which move in the transaction that applies a record.
    These follow their records: a service that was killed in between processes some of them again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(
        self, consumer: str, topic: str, topic_id: str, partitions: Collection[int]
    ) -> dict[int, int]:
        """The next offset by partition, without those of another topic of that name."""
        async with self._database.connection() as connection:
            rows = await _LOAD.fetch(
                connection, consumer=consumer, topic=topic, topic_id=topic_id, partitions=list(partitions)
            )
        return {row["partition"]: row["next_offset"] for row in rows}

    async def advance(
        self, consumer: str, topic: str, topic_id: str, next_offsets: Mapping[int, int]
    ) -> None:
        """Moves offsets forward, and replaces those of another topic of that name."""
        rows = [{"partition": partition, "next": at} for partition, at in next_offsets.items()]
        async with self._database.connection() as connection:
            await _ADVANCE.execute(
                connection,
                consumer=consumer,
                topic=topic,
                topic_id=topic_id,
                **unnested_values("move", _MOVE, rows),
            )
