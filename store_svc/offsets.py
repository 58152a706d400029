"""Offsets kept beside the facts: they move only in the transaction that holds the records' effect."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import select

from mesh.delivery import Delivery
from mesh.problems import Conflict
from store_svc.database import Database
from store_svc.tables import offsets

# Rows known to exist are compared and set, missing ones inserted; what comes back has moved.
_ADVANCE = """
WITH moves AS (
    SELECT * FROM unnest($4::int[], $5::bigint[], $6::bigint[]) AS m(partition, expected, next)
), advanced AS (
    UPDATE offsets o SET next_offset = m.next FROM moves m
    WHERE o.consumer = $1 AND o.topic = $2 AND o.topic_id = $3 AND o.partition = m.partition
      AND o.next_offset = m.expected
    RETURNING o.partition
), begun AS (
    INSERT INTO offsets (consumer, topic, topic_id, partition, next_offset)
    SELECT $1, $2, $3, m.partition, m.next FROM moves m WHERE m.expected IS NULL
    ON CONFLICT DO NOTHING
    RETURNING partition
)
SELECT (SELECT count(*) FROM advanced) + (SELECT count(*) FROM begun)
"""


class OffsetsMoved(Exception):
    """Somebody else has recorded these records, or others after the partition was last loaded: nothing of
    this transaction may stay. Load again, seek, go on."""


@dataclass(frozen=True, slots=True)
class Move:
    """One partition's part of a batch: offsets `first` to `next` - 1 (not all of them need exist)."""

    partition: int
    first: int
    next: int


def moves(batch: Sequence[Delivery[Any]]) -> list[Move]:
    """By partition, ascending."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for delivery in batch:
        first.setdefault(delivery.partition, delivery.offset)
        last[delivery.partition] = delivery.offset
    return [Move(partition, first[partition], last[partition] + 1) for partition in sorted(first)]


class Offsets:
    """The store's OffsetStore (see mesh.delivery). It remembers the rows seen, to compare before setting."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._consumer = consumer
        self._known: dict[tuple[str, int], int] = {}

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        """Next offset by partition; none for one never read. Raises Conflict for another topic id."""
        query = select(offsets.c.partition, offsets.c.next_offset, offsets.c.topic_id).where(
            offsets.c.consumer == self._consumer,
            offsets.c.topic == topic,
            offsets.c.partition.in_(partitions),
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        found = {row.partition: row.next_offset for row in rows}
        if any(row.topic_id != topic_id for row in rows):
            raise Conflict(
                f"topic {topic} was made anew: the offsets in the database belong to another one",
                "TOPIC_REPLACED",
                topic=topic,
            )
        for partition in partitions:
            self._known.pop((topic, partition), None)
        self._known.update({(topic, partition): offset for partition, offset in found.items()})
        return found

    async def advance(
        self, connection: "asyncpg.Connection", topic: str, topic_id: str, moves: Sequence[Move]
    ) -> None:
        """Moves the rows in the caller's transaction; raises OffsetsMoved where one is not as remembered."""
        expected = [self._known.get((topic, move.partition)) for move in moves]
        if any(known is not None and move.first < known for move, known in zip(moves, expected, strict=True)):
            raise OffsetsMoved
        moved = await connection.fetchval(
            _ADVANCE,
            self._consumer,
            topic,
            topic_id,
            [move.partition for move in moves],
            expected,
            [move.next for move in moves],
        )
        if moved != len(moves):
            raise OffsetsMoved

    def committed(self, topic: str, moves: Sequence[Move]) -> None:
        """Remembers what the committed transaction has set."""
        for move in moves:
            self._known[topic, move.partition] = move.next
