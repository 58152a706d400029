"""What the bus delivers, and the interface for consumers that store their own offsets."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias

from google.protobuf.message import Message

from mesh.topics import M, Topic

# Where a tail starts: at the oldest kept record, at the next one, or at the first of this or a later time.
Start: TypeAlias = Literal["beginning", "end"] | datetime
Output: TypeAlias = tuple[Topic[Any], Message]


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """A record. `offset` is its place in the partition; `timestamp` is in UTC, as the producer set it."""

    message: M
    key: str
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    headers: dict[str, str]
    # For the bus only: which assignment of the partition delivered the record.
    generation: int = field(default=0, compare=False, repr=False)


class OffsetStore(Protocol):
    """Stores the offsets of a group where only Lares can write them."""

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        """Returns the next offset of each partition; a missing one means the beginning. Raises Conflict if
        offsets of another topic id are stored, which means that the topic was created anew. Unavailable is
        retried."""
        ...

    async def save(self, topic: str, topic_id: str, positions: Mapping[int, int]) -> None:
        """Stores the next offsets of records that are done, by partition. Where the offsets are stored in the
        same transaction as the effects of the records, that concerns records without an effect. Raises
        Unavailable."""
        ...
