"""The records on a topic of a running Lares."""

from collections import Counter

from aiokafka import AIOKafkaConsumer
from google.protobuf.message import DecodeError

from lares.reason.v1.events_pb2 import EventAssessed
from mesh.topics import ASSESSED
from tests.support.readable_lares import ReadableLares


async def topic_values(lares: ReadableLares, topic: str) -> list[bytes]:
    """Returns the values of all current records, in order within each partition."""
    found: list[bytes] = []
    async with AIOKafkaConsumer(topic, auto_offset_reset="earliest", **lares.admin_kafka_options) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in records]
    return found


async def assessed_times(lares: ReadableLares) -> Counter[tuple[str, str, str]]:
    """Counts the assessments of each event, evidence digest and request on the topic, without failures, and
    without the garbage that a fault run puts there.

    Work that was done twice is visible here, although the store keeps one assessment.
    """
    facts = filter(None, map(_decoded, await topic_values(lares, ASSESSED.name)))
    return Counter(
        (fact.event_id, fact.evidence_digest, fact.assessment.request_id)
        for fact in facts
        if fact.HasField("assessment")
    )


def _decoded(value: bytes) -> EventAssessed | None:
    try:
        return EventAssessed.FromString(value)
    except DecodeError:
        return None
