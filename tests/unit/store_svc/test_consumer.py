"""How the store cuts what it has read into transactions."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from lares.detect.v1.events_pb2 import MediaDetected
from mesh.bus import Stream
from mesh.delivery import Delivery
from store_svc.consumer import MAX_FINDINGS, Consumer
from store_svc.recording.media_record import count_findings
from tests.support.facts import deliveries, reported


class Batches:
    """A stream with one batch."""

    def __init__(self, batch: Sequence[Delivery[MediaDetected]]) -> None:
        self._batch = batch

    async def batches(self, most: int) -> AsyncIterator[Sequence[Delivery[MediaDetected]]]:
        assert len(self._batch) <= most
        yield self._batch


class TopicOnly:
    """A recorder that is never asked to record."""

    class topic:
        name = "detect.detections.v1"


class Parts(Consumer[MediaDetected, Any]):
    """Keeps the parts instead of recording them."""

    def __init__(self) -> None:
        super().__init__(
            cast(Any, None), cast(Any, None), cast(Any, None), cast(Any, TopicOnly()), count_findings
        )
        self.offsets: list[list[int]] = []

    async def process(
        self, stream: Stream[MediaDetected], batch: Sequence[Delivery[MediaDetected]], attempt: int = 1
    ) -> None:
        self.offsets.append([delivery.offset for delivery in batch])


async def parts(*findings: int) -> list[list[int]]:
    messages = [reported(n, n, *[("person", 0.5)] * count) for n, count in enumerate(findings)]
    consumer = Parts()
    await consumer.run(cast(Any, Batches(deliveries("detect.detections.v1", *messages))))
    return consumer.offsets


async def test_photos_share_a_transaction() -> None:
    assert await parts(*[20] * 90) == [list(range(90))]


async def test_a_transaction_holds_at_most_so_many_findings_or_one_clip_that_has_more() -> None:
    most = MAX_FINDINGS
    assert await parts(most - 1, 1, 1) == [[0, 1], [2]]
    assert await parts(1, most, most + 1, 1, 1) == [[0], [1], [2], [3, 4]]
    assert await parts(0, most, 0) == [[0, 1, 2]]


async def test_nothing_read_is_nothing_recorded() -> None:
    assert await parts() == []
