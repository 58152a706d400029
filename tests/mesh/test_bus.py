"""The bus on a real broker: publishing, groups, delivery."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection, Sequence
from functools import partial
from typing import Any, cast

import pytest
import structlog
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Delivery, Stream
from mesh.bus.address import KafkaAddress
from mesh.problems import Conflict, Invalid, NotFound
from mesh.topics import CAMERAS, DEAD_LETTER_SERVICES, INGESTED, TOPICS, Topic, dead_letters
from tests.support.records import (
    answers,
    media,
    media_topic,
    no_lag,
    numbers,
    raw,
    receive,
    rejection_topic,
    unique,
)
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.usefixtures("patient_members")


@pytest.fixture(scope="module")
async def admin(kafka_url: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**KafkaAddress.parse(kafka_url).options("admin"))
    await admin.start()
    yield admin
    await admin.close()


async def settings(admin: Any, topic: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {name: value for name, value, *_ in answer.resources[0][4]}


async def test_topics_are_made_as_the_table_says_and_making_them_again_changes_nothing(
    bus: Bus, admin: Any
) -> None:
    await bus.create_topics()
    await bus.create_topics()
    made = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    wanted = {topic.name: topic.partitions for topic in TOPICS}
    wanted |= {dead_letters(service): 1 for service in DEAD_LETTER_SERVICES}
    assert wanted.items() <= made.items()
    week = await settings(admin, INGESTED.name)
    assert (week["cleanup.policy"], week["retention.ms"]) == ("delete", str(7 * 24 * 3600 * 1000))
    assert (await settings(admin, CAMERAS.name))["cleanup.policy"] == "compact"
    month = await settings(admin, dead_letters("detect_svc"))
    assert month["retention.ms"] == str(30 * 24 * 3600 * 1000)


async def test_a_topic_with_another_number_of_partitions_is_refused(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=3)
    other = Topic(topic.name, topic.message, topic.key, "camera id", 12, 3600, (), ())
    with pytest.raises(Conflict) as refused:
        await bus.create_topics([other], [])
    assert refused.value.reason == "TOPIC_PARTITIONS"


async def test_what_publish_returned_from_is_in_the_log(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n % 5}", n) for n in range(500)))
    async with bus.consume(topic, unique("group")) as stream:
        assert sum((await stream.ends()).values()) == 500
        assert await stream.lag() == 500


async def test_publishing_nothing_or_nowhere(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.bus.cluster.TOPIC_SECONDS", 0.2)
    await bus.publish(INGESTED)
    missing = raw(unique("missing"))
    with pytest.raises(NotFound) as refused:
        await bus.publish(missing, media("cam", 1))
    assert refused.value.reason == "TOPIC_MISSING"
    with pytest.raises(NotFound):
        async with bus.consume(missing, "g"):
            raise AssertionError("entered a topic that does not exist")
    with pytest.raises(Invalid):
        await bus.publish(cast(Topic[Any], missing), MediaRejected())


async def test_publishers_that_give_up_leave_the_bus_whole(bus: Bus) -> None:
    topic = await media_topic(bus)
    tasks = [asyncio.create_task(bus.publish(topic, media("cam", n))) for n in range(200)]
    await asyncio.sleep(0)
    for task in random.sample(tasks, 100):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await bus.publish(topic, media("cam", 1000))
    kept = {n for n, task in enumerate(tasks) if not task.cancelled()}
    async with bus.consume(topic, unique("group")) as stream:
        ends = sum((await stream.ends()).values())
        came = numbers(await receive(stream, ends))
    assert came[-1] == 1000
    assert kept <= set(came)
    assert len(came) == len(set(came))


async def test_order_holds_for_each_key_through_batches_of_any_size(bus: Bus) -> None:
    topic = await media_topic(bus)
    for start in range(0, 400, 40):
        await bus.publish(topic, *(media(f"cam-{n % 7}", n) for n in range(start, start + 40)))
    by_key: dict[str, list[int]] = {}
    async with bus.consume(topic, unique("group")) as stream:
        while sum(map(len, by_key.values())) < 400:
            for delivery in await anext(stream.batches(13, linger=0.01)):
                by_key.setdefault(delivery.key, []).append(delivery.message.media.size_bytes)
                stream.done(delivery)
        await no_lag(stream)
    assert by_key == {f"cam-{c}": [n for n in range(400) if n % 7 == c] for c in range(7)}


async def test_batches_are_never_empty_nor_too_large_and_linger_fills_them(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    async with bus.consume(topic, unique("group")) as stream:
        assert numbers(await anext(stream.batches(4, linger=30))) == [0, 1, 2, 3]
        assert numbers(await anext(stream.batches(6, linger=30))) == [4, 5, 6, 7, 8, 9]
        waiting = asyncio.ensure_future(anext(stream.batches(2, linger=30)))
        await bus.publish(topic, media("cam", 10))
        await bus.publish(topic, media("cam", 11))
        assert numbers(await asyncio.wait_for(waiting, 90)) == [10, 11]


async def test_groups_are_independent_and_a_late_one_misses_nothing(bus: Bus) -> None:
    topic = await media_topic(bus)
    await bus.publish(topic, *(media(f"cam-{n}", n) for n in range(20)))
    first, late = unique("first"), unique("late")
    async with bus.consume(topic, first) as stream:
        for delivery in await receive(stream, 20):
            stream.done(delivery)
        await no_lag(stream)
        await bus.publish(topic, media("cam-20", 20))
        async with bus.consume(topic, late) as other:
            assert sorted(numbers(await receive(other, 21))) == list(range(21))
            assert await other.lag() == 21
        assert numbers(await receive(stream, 1)) == [20]
        assert await stream.lag() == 1


async def test_what_is_unfinished_comes_again_and_what_is_done_does_not(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=1), unique("group")
    await bus.publish(topic, *(media("cam", n) for n in range(6)))
    async with bus.consume(topic, group) as stream:
        for delivery in (await receive(stream, 6))[:3]:
            stream.done(delivery)
    async with bus.consume(topic, group) as stream:
        assert numbers(await receive(stream, 3)) == [3, 4, 5]
        assert await stream.lag() == 3


async def test_finishing_out_of_order_commits_the_prefix_and_publishes_in_the_order_of_the_input(
    bus: Bus,
) -> None:
    topic, outputs, group = await media_topic(bus, partitions=1), await rejection_topic(bus), unique("group")
    await bus.publish(topic, *(media("cam", n) for n in range(40)))

    def rejected(delivery: Delivery[MediaIngested]) -> MediaRejected:
        return MediaRejected(camera_id="cam", detail=str(delivery.message.media.size_bytes))

    async with bus.consume(topic, group) as stream:
        deliveries = await receive(stream, 40)
        first, rest = deliveries[0], deliveries[1:20]
        for delivery in random.sample(rest, len(rest)):
            stream.done(delivery, (outputs, rejected(delivery)))
        stream.done(deliveries[25], (outputs, rejected(deliveries[25])))
        assert stream.positions() == {0: 0}
        stream.done(first, (outputs, rejected(first)), (outputs, rejected(first)))
        await until(lambda: stream.positions() == {0: 20}, what=lambda: "the prefix is finished")
        assert await stream.lag() == 20
    async with bus.consume(topic, group) as stream:
        assert numbers(await receive(stream, 20)) == list(range(20, 40))
    async with bus.tail(outputs, start="beginning") as tail:
        details = [int((await anext(tail)).message.detail) for _ in range(21)]
        assert details == [0, *range(20)]


async def test_a_record_is_not_finished_before_its_outputs_are_durable(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, media("cam", 1))
    send, asked, let = bus._publisher.send, asyncio.Event(), asyncio.Event()

    async def slow_send(*arguments: Any) -> None:
        asked.set()
        await let.wait()
        await send(*arguments)

    async with bus.consume(topic, unique("group")) as stream:
        (delivery,) = await receive(stream, 1)
        monkeypatch.setattr(bus._publisher, "send", slow_send)
        stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
        await asyncio.wait_for(asked.wait(), 90)
        assert stream.positions() == {0: 0}
        assert await stream.lag() == 1
        let.set()
        await no_lag(stream)
        async with bus.consume(outputs, unique("group")) as after:
            assert await after.lag() == 1


async def test_while_more_waits_outputs_gather_into_few_requests(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, *(media("cam", n) for n in range(41)))
    requests: list[int] = []
    send = bus._publisher.send

    async def counted(records: Sequence[Any], **options: Any) -> None:
        requests.append(len(records))
        await send(records, **options)

    monkeypatch.setattr(bus._publisher, "send", counted)
    async with bus.consume(topic, unique("group")) as stream:
        await until(lambda: len(stream._tracker._waiting) == 41, what=lambda: "all are fetched")
        async for (delivery,) in stream.batches(1):
            stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
            if stream._tracker.taken.is_set():
                break
            await asyncio.sleep(0.001)
        await no_lag(stream)
    assert sum(requests) == 41
    assert len(requests) < 10


async def test_a_producer_that_cannot_go_on_is_replaced(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, media("cam", 1))
    bus._publisher._producer._message_accumulator.fail_all(KafkaError("out of sequence"))
    await asyncio.gather(*(bus.publish(topic, media("cam", n)) for n in range(2, 10)))
    async with bus.consume(topic, unique("group")) as stream:
        assert sorted(numbers(await receive(stream, 9))) == list(range(1, 10))


async def test_a_slow_consumer_pushes_back_and_stays_in_its_group(bus: Bus) -> None:
    topic, group = await media_topic(bus), unique("group")
    await bus.publish(topic, media("cam", 0))
    async with bus.consume(topic, group) as stream:  # aiokafka counts idle time once the group has offsets
        stream.done((await receive(stream, 1))[0])
    await bus.publish(topic, *(media(f"cam-{n % 30}", n) for n in range(1, 300)))
    async with bus.consume(topic, group, buffer=20) as stream:
        held, since = await receive(stream, 20), time.monotonic()
        more = asyncio.ensure_future(anext(stream.batches(20)))

        def polls() -> bool:
            """Who is idle for a minute is put out of its group."""
            idle: float = stream._member.consumer._subscription.fetcher_idle_time
            return idle < (time.monotonic() - since) / 2

        await until(lambda: time.monotonic() - since > 1 and polls())
        assert not more.done()
        assert len(stream.positions()) == 12
        came = list(held)
        while len(came) < 299:
            for delivery in held:
                stream.done(delivery)
            held = await more
            came += held
            more = asyncio.ensure_future(anext(stream.batches(20), []))
        for delivery in held:
            stream.done(delivery)
        await no_lag(stream)
    assert await more == []
    assert sorted(numbers(came)) == list(range(1, 300))


async def test_request_id_and_trace_go_with_a_message_and_with_what_follows_from_it(bus: Bus) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with structlog.contextvars.bound_contextvars(request_id="r42"):
        await bus.publish(topic, media("cam", 1), headers={"traceparent": trace})
    async with bus.consume(topic, unique("group")) as stream:
        (delivery,) = await receive(stream, 1)
        stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
        await no_lag(stream)
    async with bus.tail(outputs, start="beginning") as tail:
        assert (await anext(tail)).headers == {"x-request-id": "r42", "traceparent": trace}


async def test_a_stream_goes_back_to_where_it_is_told(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    async with bus.consume(topic, unique("group")) as stream:
        late = await receive(stream, 8)
        await stream.seek(0, 5)
        assert numbers(await receive(stream, 5)) == [5, 6, 7, 8, 9]
        for delivery in late:
            stream.done(delivery)
        assert stream.positions() == {0: 5}
        await stream.seek(99, 0)
        assert await stream.lag() == 5


class Book:
    """Offsets kept elsewhere."""

    def __init__(self, offsets: dict[int, int], topic_id: str = "") -> None:
        self.offsets, self.topic_id = offsets, topic_id

    async def load(self, topic: str, topic_id: str, partitions: Collection[int]) -> dict[int, int]:
        if self.topic_id and topic_id != self.topic_id:
            raise Conflict("made anew", "TOPIC_CHANGED")
        return {partition: at for partition, at in self.offsets.items() if partition in partitions}


async def test_offsets_kept_elsewhere_are_the_truth_and_are_mirrored(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=2), unique("group")
    await bus.publish(topic, *(media(f"cam-{n % 8}", n) for n in range(60)))
    async with bus.consume(topic, group) as stream:
        for delivery in await receive(stream, 60):
            stream.done(delivery)
        await no_lag(stream)
        ends, topic_id = await stream.ends(), stream.topic_id
    book = Book({0: 3}, topic_id)
    async with bus.consume(topic, group, offsets=book) as stream:
        assert await stream.lag() == ends[0] - 3 + ends[1]
        came = await receive(stream, ends[0] - 3 + ends[1])
        assert min(d.offset for d in came if d.partition == 0) == 3
        assert min(d.offset for d in came if d.partition == 1) == 0
        for delivery in came:
            stream.done(delivery)
        await no_lag(stream)
    async with bus.consume(topic, group) as stream:
        await until(lambda: stream.positions() == ends, what=lambda: "Kafka has the positions too")


async def test_offsets_of_another_topic_of_that_name_stop_the_stream(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    async with bus.consume(topic, unique("group"), offsets=Book({0: 3}, "another")) as stream:
        with pytest.raises(Conflict) as stopped:
            await receive(stream, 1)
    assert stopped.value.reason == "TOPIC_CHANGED"


async def expire(admin: Any, topic: Topic[Any], before: int) -> None:
    """What retention does to partition 0."""
    await admin.delete_records({TopicPartition(topic.name, 0): RecordsToDelete(before_offset=before)})


async def test_an_offset_beyond_the_log_stops_the_stream(bus: Bus, admin: Any) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    await expire(admin, topic, 5)
    async with bus.consume(topic, unique("group"), offsets=Book({0: 50})) as stream:
        for _ in range(2):  # and it stays stopped
            with pytest.raises(Conflict) as stopped:
                await receive(stream, 1)
            assert stopped.value.reason == "OFFSET_OUT_OF_RANGE"
            assert stopped.value.metadata["offset"] == "50"
    async with bus.consume(topic, unique("new")) as stream:
        assert numbers(await receive(stream, 5)) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("kept", [5, 0])
async def test_who_is_overtaken_by_retention_says_so_and_goes_on_with_what_is_kept(
    bus: Bus, admin: Any, kept: int
) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    await expire(admin, topic, 10 - kept)
    group, book = unique("group"), Book({0: 2})
    with structlog.testing.capture_logs() as lines:
        async with bus.consume(topic, group, offsets=book) as stream:
            came = await receive(stream, kept)
            assert numbers(came) == list(range(10 - kept, 10))
            for delivery in came:
                stream.done(delivery)
            await no_lag(stream)
            assert stream.positions() == {0: 10}
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["topic"], line["group"], line["first"], line["lost"]) == (topic.name, group, 2, 8 - kept)
    async with bus.consume(topic, group) as stream:
        await until(lambda: stream.positions() == {0: 10}, what=lambda: "Kafka has the position too")


async def test_what_is_in_hand_while_retention_overtakes_is_done_as_ever(bus: Bus, admin: Any) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, *(media("cam", n) for n in range(4)))
    async with bus.consume(topic, unique("group"), buffer=4) as stream:
        held = await receive(stream, 4)
        consumer = stream._member.consumer
        await until(
            lambda: consumer.paused() and not consumer._fetcher._in_flight, what=lambda: "it fetches no more"
        )
        await bus.publish(topic, *(media("cam", n) for n in range(4, 10)))
        await expire(admin, topic, 8)
        stream.done(held[0])
        after = await receive(stream, 1)
        assert numbers(after) == [8]
        for delivery in held[1:]:
            size = str(delivery.message.media.size_bytes)
            stream.done(delivery, (outputs, MediaRejected(camera_id="cam", detail=size)))
        after += await receive(stream, 1)
        for delivery in after:
            stream.done(delivery)
        await no_lag(stream)
    async with bus.tail(outputs, start="beginning") as tail:
        assert [(await anext(tail)).message.detail for _ in range(3)] == ["1", "2", "3"]


async def test_a_stream_of_a_closed_block_ends(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    async with bus.consume(topic, unique("group")) as stream:
        waiting = asyncio.ensure_future(anext(stream.batches(1), None))
        await until(lambda: stream.positions() == {0: 0})
    assert await asyncio.wait_for(waiting, 90) is None


async def test_a_stream_leaves_nothing_behind_however_it_ends(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=1), unique("group")
    await bus.publish(topic, media("cam", 1))
    before = asyncio.all_tasks()
    async with bus.consume(topic, group):
        pass  # ends while it joins
    async with bus.consume(topic, unique("group"), offsets=Book({0: 9})) as failed:
        with pytest.raises(Conflict):
            await receive(failed, 1)
    held: list[tuple[Stream[MediaIngested], Delivery[MediaIngested]]] = []

    async def hold() -> None:
        async with bus.consume(topic, group) as stream:
            held.append((stream, (await receive(stream, 1))[0]))
            await asyncio.Event().wait()  # cancelled

    holding = asyncio.create_task(hold())
    await until(lambda: held)
    holding.cancel()
    await asyncio.wait([holding])
    stream, delivery = held[0]
    stream.done(delivery)
    await until(lambda: not [task for task in asyncio.all_tasks() - before if "aiokafka" in repr(task)])


async def test_a_member_that_is_still_being_let_in_can_leave(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.aiokafka_internals.CONSUMER_STOP_SECONDS", 0.05)
    # The first one's next heartbeat lets the second one in: not before it has left, however slow that is.
    monkeypatch.setattr("mesh.bus.group_member.HEARTBEAT_MS", 100_000)
    monkeypatch.setattr("mesh.bus.group_member.SESSION_MS", 300_000)
    topic, group = await media_topic(bus, partitions=1), unique("group")
    async with bus.consume(topic, group) as first:
        await until(lambda: first.positions() == {0: 0})
        before = asyncio.all_tasks()
        async with bus.consume(topic, group) as second:

            def knocked() -> bool:
                """It has none, or one that has just begun to start, while the machine is slow."""
                coordinator = getattr(second._member.consumer, "_coordinator", None)
                return bool(coordinator and coordinator.member_id)

            await until(knocked)
        await until(lambda: not [task for task in asyncio.all_tasks() - before if "aiokafka" in repr(task)])


async def test_the_cluster_answers(bus: Bus) -> None:
    await until_async(partial(answers, bus))
