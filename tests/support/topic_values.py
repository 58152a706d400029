"""What lies on a topic of a running Lares, as bytes."""

from aiokafka import AIOKafkaConsumer

from tests.support.lares import Lares


async def topic_values(lares: Lares, topic: str) -> list[bytes]:
    """The values of all records that are there now; in order within a partition."""
    found: list[bytes] = []
    async with AIOKafkaConsumer(topic, auto_offset_reset="earliest", **lares.admin_kafka_options) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
    return found
