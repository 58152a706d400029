"""What the bus hands over, and what it asks of those who keep their own offsets."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias

from google.protobuf.message import Message

from mesh.topics import M, Topic

# Where a tail begins: at the oldest kept, at what comes next, or at the first record of that time or later.
Start: TypeAlias = Literal["beginning", "end"] | datetime
Output: TypeAlias = tuple[Topic[Any], Message]


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """One record. `offset` counts in its partition; `timestamp` is aware (UTC), as the producer set it."""

    message: M
    key: str
    topic: str
    partition: int
    offset: int
    timestamp: datetime
    headers: dict[str, str]
    # Under which assignment of its partition it came: the bus's own, to tell late answers from timely ones.
    generation: int = field(default=0, compare=False, repr=False)


class OffsetStore(Protocol):
    """Keeps the offsets of a group in the transaction of their effects."""

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        """The next offset of each partition; an absent one means the beginning. Raises Conflict if what is
        stored belongs to another topic id (the topic was made anew)."""
        ...
