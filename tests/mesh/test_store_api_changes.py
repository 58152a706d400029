"""The feed by EventService, a page at a time and live, on a real PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import pytest

from lares.store.v1 import event_service_pb2 as pb
from lares.store.v1.events_pb2 import EventChanged
from mesh.feed import Feed
from mesh.problems import Conflict, Invalid
from store_svc.api.events import EventServicer
from store_svc.database import Database, tables
from store_svc.queries.feed import list_changes
from tests.support.store_rows import feed_row, open_store_database, write

nothing = cast(Any, None)


class Changes:
    """A feed that a test writes, and what the service returns of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.live = Feed(partial(list_changes, database))
        self.servicer = EventServicer(database, self.live, nothing, nothing, nothing, nothing, nothing)

    async def keep(self, *sequences: int, head: int) -> None:
        if sequences:
            await write(self.database, tables.feed, *[feed_row(sequence) for sequence in sequences])
        async with self.database.connection() as connection:
            await connection.execute("UPDATE feed_head SET sequence = $1", head)

    async def page(self, after: int, size: int = 0) -> pb.ListChangesResponse:
        return await self.servicer.ListChanges(pb.ListChangesRequest(after=after, page_size=size), None)

    async def watch(self, after: int) -> AsyncGenerator[int, None]:
        async for answer in self.servicer.WatchEvents(pb.WatchEventsRequest(after=after), None):
            yield answer.change.sequence

    async def after(self, cursor: int, size: int = 0) -> tuple[list[int], int]:
        answer = await self.page(cursor, size)
        return [change.sequence for change in answer.changes], answer.head


@pytest.fixture
async def changes(postgres_url: str) -> AsyncIterator[Changes]:
    async with open_store_database(postgres_url) as database:
        yield Changes(database)


async def test_changes_after_the_cursor_are_in_order(changes: Changes) -> None:
    await changes.keep(3, 1, 4, 2, 5, head=5)
    assert await changes.after(0) == ([1, 2, 3, 4, 5], 5)
    assert await changes.after(0, 2) == ([1, 2], 5)
    assert await changes.after(2, 2) == ([3, 4], 5)
    assert await changes.after(5) == ([], 5)


async def test_a_change_is_returned_as_it_was_written(changes: Changes) -> None:
    await changes.keep(1, head=1)
    (change,) = (await changes.page(0)).changes
    assert change.SerializeToString() == feed_row(1)["body"]


async def test_a_page_has_200_changes_by_default(changes: Changes) -> None:
    await changes.keep(*range(1, 302), head=301)
    assert await changes.after(0) == (list(range(1, 201)), 301)
    assert await changes.after(0, 500) == (list(range(1, 302)), 301)


async def test_a_cursor_beyond_the_head_is_refused(changes: Changes) -> None:
    assert await changes.after(0) == ([], 0)
    with pytest.raises(Invalid) as refused:
        await changes.after(1)
    assert refused.value.reason == "CURSOR_BEYOND_HEAD"


async def test_a_cursor_older_than_the_oldest_entry_is_refused(changes: Changes) -> None:
    await changes.keep(7, 8, 9, head=9)
    assert await changes.after(0) == ([7, 8, 9], 9)
    assert await changes.after(6) == ([7, 8, 9], 9)
    with pytest.raises(Conflict) as expired:
        await changes.after(5)
    assert expired.value.reason == "CURSOR_EXPIRED"


async def test_a_feed_without_entries_continues_at_its_head(changes: Changes) -> None:
    await changes.keep(head=9)
    assert await changes.after(9) == ([], 9)
    assert await changes.after(0) == ([], 9)
    with pytest.raises(Conflict) as expired:
        await changes.after(8)
    assert expired.value.reason == "CURSOR_EXPIRED"


async def test_watching_reads_stored_changes_and_continues_live(changes: Changes) -> None:
    await changes.keep(1, 2, 3, head=3)
    watching = changes.watch(after=1)
    assert [await anext(watching), await anext(watching)] == [2, 3]
    await changes.keep(4, 5, head=5)
    for sequence in (3, 4, 5):  # the topic has some changes twice
        changes.live.put(EventChanged.FromString(feed_row(sequence)["body"]))
    assert [await anext(watching), await anext(watching)] == [4, 5]
    await watching.aclose()


async def test_watching_from_an_expired_cursor_is_refused(changes: Changes) -> None:
    await changes.keep(7, 8, 9, head=9)
    with pytest.raises(Conflict):
        await anext(changes.watch(after=2))
    with pytest.raises(Invalid):
        await anext(changes.watch(after=10))


async def test_continuing_at_a_bookmark_misses_nothing_and_repeats_nothing(
    changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher of one camera loses its connection at every bookmark, while changes are written."""
    monkeypatch.setattr("store_svc.api.events.IDLE_SECONDS", 0.001)
    monkeypatch.setattr("store_svc.api.events.BOOKMARK_SECONDS", 0.005)
    total = 300
    wanted = [sequence for sequence in range(1, total + 1) if sequence % 7 == 0]

    async def write_and_relay() -> None:
        for first in range(1, total, 10):
            rows = [
                feed_row(n, camera_id="back" if n % 7 == 0 else "front") for n in range(first, first + 10)
            ]
            async with changes.database.connection() as connection, connection.transaction():
                await connection.executemany(
                    "INSERT INTO feed (sequence, event_id, camera_id, status, deleted, body, recorded_at)"
                    " VALUES ($1, $2, $3, 1, false, $4, $5)",
                    [
                        [row[k] for k in ("sequence", "event_id", "camera_id", "body", "recorded_at")]
                        for row in rows
                    ],
                )
                await connection.execute("UPDATE feed_head SET sequence = $1", first + 9)
            for row in rows:
                changes.live.put(EventChanged.FromString(row["body"]))
                await asyncio.sleep(random.choice([0, 0, 0.002]))

    seen: list[int] = []
    after: int | None = None
    bookmarks = 0
    first_bookmark = asyncio.Event()

    async def begin() -> None:
        await first_bookmark.wait()
        await write_and_relay()

    writing = asyncio.create_task(begin())
    async with asyncio.timeout(90):
        while len(seen) < len(wanted):
            request = pb.WatchEventsRequest(after=after, camera_ids=["back"])
            watching = changes.servicer.WatchEvents(request, None)
            async with aclosing(cast("AsyncGenerator[pb.WatchEventsResponse, None]", watching)) as answers:
                async for answer in answers:
                    if answer.HasField("change"):
                        after = answer.change.sequence
                        seen.append(after)
                        if len(seen) == len(wanted):
                            break
                        continue
                    assert answer.bookmark >= (after or 0)
                    first_bookmark.set()
                    if answer.bookmark != after:
                        after, bookmarks = answer.bookmark, bookmarks + 1
                        break
    await writing
    assert seen == wanted
    assert bookmarks > 5
