"""How far each topic was read. Offsets move only in the transaction that applies the records."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert

from mesh.delivery import Delivery
from mesh.problems import Conflict
from store_svc.database import Database
from store_svc.database.statement import Connection, Statement, one_of, parameter, unnested, unnested_values
from store_svc.database.tables import offsets

_MOVE = {
    "partition": offsets.c.partition,
    "expected": offsets.c.next_offset,
    "next": offsets.c.next_offset,
}
_consumer, _topic = parameter("consumer", offsets.c.consumer), parameter("topic", offsets.c.topic)
_LOAD = Statement(
    select(offsets.c.partition, offsets.c.next_offset, offsets.c.topic_id).where(
        offsets.c.consumer == _consumer,
        offsets.c.topic == _topic,
        one_of(offsets.c.partition, "partitions"),
    )
)


def _advance() -> Statement:
    """Moves the rows that have the expected offset, inserts those for which none is expected, and returns how
    many it has written."""
    topic_id = parameter("topic_id", offsets.c.topic_id)
    move = unnested("move", _MOVE)
    moves = select(move.c.partition, move.c.expected, move.c.next).cte("moves")
    advanced = (
        update(offsets)
        .values(next_offset=moves.c.next)
        .where(
            offsets.c.consumer == _consumer,
            offsets.c.topic == _topic,
            offsets.c.topic_id == topic_id,
            offsets.c.partition == moves.c.partition,
            offsets.c.next_offset == moves.c.expected,
        )
        .returning(offsets.c.partition)
        .cte("advanced")
    )
    begun = (
        insert(offsets)
        .from_select(
            ["consumer", "topic", "topic_id", "partition", "next_offset"],
            select(_consumer, _topic, topic_id, moves.c.partition, moves.c.next).where(
                moves.c.expected.is_(None)
            ),
        )
        .on_conflict_do_nothing()
        .returning(offsets.c.partition)
        .cte("begun")
    )
    written = [select(func.count()).select_from(rows).scalar_subquery() for rows in (advanced, begun)]
    return Statement(select(written[0] + written[1]))


_ADVANCE = _advance()


class OffsetsMoved(Exception):
    """Another process has moved an offset since it was loaded, so this transaction must be rolled back. The
    caller loads the offsets again and seeks to them."""


@dataclass(frozen=True, slots=True)
class Move:
    """The part of a batch from one partition: offsets `first` to `next` - 1, which need not all exist."""

    partition: int
    first: int
    next: int


def moves(batch: Sequence[Delivery[Any]]) -> list[Move]:
    """The moves that a batch makes, by partition in ascending order."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for delivery in batch:
        first.setdefault(delivery.partition, delivery.offset)
        last[delivery.partition] = delivery.offset
    return [Move(partition, first[partition], last[partition] + 1) for partition in sorted(first)]


class Offsets:
    """The OffsetStore (see mesh.delivery) in the database. It remembers the offsets that it has loaded or
    set, and moves only those that are still the same."""

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._consumer = consumer
        self._known: dict[tuple[str, int], int] = {}

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        """The next offset by partition, without partitions that were never read. Raises Conflict
        (TOPIC_REPLACED) if the offsets are those of another topic id."""
        async with self._database.connection() as connection:
            rows = await _LOAD.fetch(
                connection, consumer=self._consumer, topic=topic, partitions=list(partitions)
            )
        found = {row["partition"]: row["next_offset"] for row in rows}
        if any(row["topic_id"] != topic_id for row in rows):
            raise Conflict(
                f"topic {topic} was created anew: the offsets in the database are those of the old one",
                "TOPIC_REPLACED",
                topic=topic,
            )
        for partition in partitions:
            self._known.pop((topic, partition), None)
        self._known.update({(topic, partition): offset for partition, offset in found.items()})
        return found

    async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
        """Moves offsets past records without any effect: those that cannot be decoded, or are for another
        service. All others `advance` has moved, with their effects. Without this, one at the end of a
        partition would count as unread in every process that does not read that partition itself."""
        passed = []
        for partition, position in positions.items():
            known = self._known.get((topic, partition), 0)
            if position > known:
                passed.append(Move(partition, known, position))
        if not passed:
            return
        try:
            await self._database.transaction(lambda c: self.advance(c, topic, topic_id, passed))
        except OffsetsMoved:
            return  # another process has the partition now, or a batch is being recorded
        self.committed(topic, passed)

    async def advance(self, connection: Connection, topic: str, topic_id: str, moves: Sequence[Move]) -> None:
        """Moves the offsets in the caller's transaction. Raises OffsetsMoved if one is not as remembered."""
        expected = [self._known.get((topic, move.partition)) for move in moves]
        if any(known is not None and move.first < known for move, known in zip(moves, expected, strict=True)):
            raise OffsetsMoved
        rows = [
            {"partition": move.partition, "expected": offset, "next": move.next}
            for move, offset in zip(moves, expected, strict=True)
        ]
        moved = await _ADVANCE.fetch_value(
            connection,
            consumer=self._consumer,
            topic=topic,
            topic_id=topic_id,
            **unnested_values("move", _MOVE, rows),
        )
        if moved != len(moves):
            raise OffsetsMoved

    def committed(self, topic: str, moves: Sequence[Move]) -> None:
        """Remembers the offsets that a transaction has set. Must follow its commit."""
        for move in moves:
            self._known[topic, move.partition] = move.next
