"""Streams on a real broker: batches, what is done, outputs, and the end of a stream."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher

from lares.ingest.v1.events_pb2 import MediaIngested, MediaRejected
from mesh.bus import Bus, Delivery, Stream
from mesh.bus.group_member import Timing
from mesh.bus.publisher import Publisher
from mesh.bus.record_tracker import RecordTracker
from mesh.problems import Conflict
from tests.support.records import (
    StoredOffsets,
    media,
    media_topic,
    no_lag,
    numbers,
    receive,
    rejection_topic,
    unique,
)
from tests.support.waiting import until, until_async

pytestmark = pytest.mark.usefixtures("patient_members")


async def test_batches_are_neither_empty_nor_too_large_and_linger_fills_them(bus: Bus) -> None:
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


async def test_unfinished_records_are_delivered_again_and_done_ones_are_not(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=1), unique("group")
    await bus.publish(topic, *(media("cam", n) for n in range(6)))
    async with bus.consume(topic, group) as stream:
        for delivery in (await receive(stream, 6))[:3]:
            stream.done(delivery)
    async with bus.consume(topic, group) as stream:
        assert numbers(await receive(stream, 3)) == [3, 4, 5]
        assert await stream.lag() == 3


async def test_records_done_out_of_order_are_committed_up_to_the_first_gap_and_their_outputs_keep_the_order(
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


async def test_a_record_is_not_committed_before_its_outputs_are_durable(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, media("cam", 1))
    send, sending, go_on = Publisher.send, asyncio.Event(), asyncio.Event()

    async def slow_send(*arguments: Any) -> None:
        sending.set()
        await go_on.wait()
        await send(*arguments)

    async with bus.consume(topic, unique("group")) as stream:
        (delivery,) = await receive(stream, 1)
        monkeypatch.setattr(Publisher, "send", slow_send)
        stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
        await asyncio.wait_for(sending.wait(), 90)
        assert stream.positions() == {0: 0}
        assert await stream.lag() == 1
        go_on.set()
        await no_lag(stream)
        async with bus.consume(outputs, unique("group")) as after:
            assert await after.lag() == 1


async def test_outputs_share_requests_while_more_records_are_waiting(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, *(media("cam", n) for n in range(41)))
    requests: list[int] = []
    send = Publisher.send

    async def counted(publisher: Publisher, records: Sequence[Any], **options: Any) -> None:
        requests.append(len(records))
        await send(publisher, records, **options)

    monkeypatch.setattr(Publisher, "send", counted)
    async with bus.consume(topic, unique("group")) as stream:
        done = 0
        async for (delivery,) in stream.batches(1):
            stream.done(delivery, (outputs, MediaRejected(camera_id="cam")))
            done += 1
            if done == 41:
                break
            await asyncio.sleep(0.001)
        await no_lag(stream)
    assert sum(requests) == 41
    assert len(requests) < 10


async def test_outputs_of_an_urgent_record_do_not_wait_for_other_records(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.stream.GATHER_SECONDS", 600.0)
    monkeypatch.setattr("mesh.bus.stream.URGENT_SECONDS", 0.01)
    ready, asked = RecordTracker.ready, list[object]()

    def counted(tracker: RecordTracker[Any]) -> Any:
        asked.append(tracker)
        return ready(tracker)

    monkeypatch.setattr(RecordTracker, "ready", counted)
    topic, outputs = await media_topic(bus, partitions=1), await rejection_topic(bus)
    await bus.publish(topic, *(media("cam", n) for n in range(3)))
    async with bus.consume(topic, unique("group")) as stream:
        batches = stream.batches(1)
        (first,) = await anext(batches)
        (second,) = await anext(batches)  # the third waits
        stream.done(first, (outputs, MediaRejected(camera_id="cam")), urgent=False)
        await until(lambda: len(asked) > 5)
        assert stream.positions() == {0: 0}
        assert stream.processed() == {0: 1}
        stream.done(second, (outputs, MediaRejected(camera_id="cam")), urgent=True)
        await until(lambda: stream.positions() == {0: 2})


async def test_a_slow_worker_stops_the_fetching_and_its_member_stays_in_the_group(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, group = await media_topic(bus), unique("group")
    await bus.publish(topic, media("cam", 0))
    async with bus.consume(topic, group) as stream:  # aiokafka counts idle time once the group has offsets
        stream.done((await receive(stream, 1))[0])
    await bus.publish(topic, *(media(f"cam-{n % 30}", n) for n in range(1, 300)))
    # A member that does not poll for this long leaves its group, and gets its records again.
    limit = 4.0
    monkeypatch.setattr("mesh.bus.group_member.POLL_LIMIT_MS", limit * 1000)
    async with bus.consume(topic, group, buffer=20) as stream:
        held, since = await receive(stream, 20), time.monotonic()
        more = asyncio.ensure_future(anext(stream.batches(20)))
        await until(lambda: time.monotonic() - since > 1.5 * limit)
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


async def test_a_consumer_that_does_not_see_its_new_positions_looks_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiokafka does if a request ends at the same moment: by itself it would look again much later."""
    monkeypatch.setattr("mesh.bus.group_member.LOOK_MS", 600_000)
    monkeypatch.setattr("mesh.bus.stall_detector.StallDetector.stalled", lambda *_: False)
    look, missed = Fetcher._get_actions_per_node, list[Any]()

    def missing_the_first(fetcher: Fetcher, assignment: Any) -> Any:
        actions = requests, *_ = look(fetcher, assignment)
        if requests and not missed:
            missed.append(requests)
            return [], {}, 600.0, False, []
        return actions

    monkeypatch.setattr(Fetcher, "_get_actions_per_node", missing_the_first)
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, media("cam", 1))
    async with bus.consume(topic, unique("group")) as stream, asyncio.timeout(30):
        assert numbers(await receive(stream, 1)) == [1]
    assert missed


async def test_seek_goes_back_and_ignores_earlier_deliveries(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    await bus.publish(topic, *(media("cam", n) for n in range(10)))
    async with bus.consume(topic, unique("group")) as stream:
        late = await receive(stream, 8)
        assert all(map(stream.holds, late))
        await stream.seek(0, 5)
        again = await receive(stream, 5)
        assert numbers(again) == [5, 6, 7, 8, 9]
        assert all(map(stream.holds, again))
        assert not any(map(stream.holds, late))
        for delivery in late:
            stream.done(delivery)
        assert stream.positions() == {0: 5}
        await stream.seek(99, 0)
        assert await stream.lag() == 5


async def test_a_stream_ends_with_its_block(bus: Bus) -> None:
    topic = await media_topic(bus, partitions=1)
    async with bus.consume(topic, unique("group")) as stream:
        waiting = asyncio.ensure_future(anext(stream.batches(1), None))
        await until(lambda: stream.positions() == {0: 0})
    assert await asyncio.wait_for(waiting, 90) is None


async def test_a_stream_leaves_no_tasks_however_it_ends(bus: Bus) -> None:
    topic, group = await media_topic(bus, partitions=1), unique("group")
    await bus.publish(topic, media("cam", 1))
    before = asyncio.all_tasks()
    async with bus.consume(topic, group):
        pass  # it ends while it joins
    async with bus.consume(topic, unique("group"), offsets=StoredOffsets({0: 9})) as failed:
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


async def test_a_member_can_leave_while_it_joins(
    bus: Bus, kafka_admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.aiokafka_internals.CONSUMER_STOP_SECONDS", 0.05)
    # The second member can join only after the first one's next heartbeat, which is later than this test.
    monkeypatch.setattr(
        "mesh.bus.group_member.NAMELESS", Timing(fetch=2000, session=300_000, heartbeat=100_000)
    )
    topic, group = await media_topic(bus, partitions=1), unique("group")

    async def joining() -> bool:
        (answer,) = await kafka_admin.describe_consumer_groups([f"{group}:{topic.name}"])
        return bool(answer.groups[0][2] == "PreparingRebalance")

    async with bus.consume(topic, group) as first:
        await until(lambda: first.positions() == {0: 0})
        assert not await joining()  # this also connects the admin client, whose tasks go on
        before = asyncio.all_tasks()
        async with bus.consume(topic, group):
            await until_async(joining)
        await until(lambda: not [task for task in asyncio.all_tasks() - before if "aiokafka" in repr(task)])
