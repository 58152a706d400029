"""Runs a member of a consumer group that a test kills. It prints the number of each record that it gets, and
finishes those with an even number."""

import asyncio
import sys

from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus import BusSettings, open_bus
from mesh.topics import Topic


async def main(url: str, name: str, partitions: int, group: str, instance: str, session: float) -> None:
    topic = Topic(name, MediaIngested, lambda m: m.media.camera_id, "camera id", partitions, 3600, (), ())
    async with (
        open_bus(
            url,
            client_id="member",
            instance=instance or None,
            settings=BusSettings(session_seconds=session),
        ) as bus,
        bus.consume(topic, group) as stream,
    ):
        async for batch in stream.batches(10):
            for delivery in batch:
                print(delivery.message.media.size_bytes, flush=True)
                if delivery.message.media.size_bytes % 2 == 0:
                    stream.done(delivery)


if __name__ == "__main__":
    url, name, partitions, group, instance, session = sys.argv[1:]
    asyncio.run(main(url, name, int(partitions), group, instance, float(session)))
