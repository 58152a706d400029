"""A link between two parts can be cut in two ways, and healed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.link import Link
from tests.faults.ports import Ports
from tests.support.waiting import until


@asynccontextmanager
async def linked() -> AsyncIterator[Link]:
    """A link to a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Link("near - far", lambda: [("127.0.0.1", 1), ("127.0.0.1", port)], Ports().one())
    await link.listen()
    try:
        yield link
    finally:
        await link.close()
        server.close()


async def say(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection over which something has come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    return reader, writer


async def test_a_refusing_link_resets_and_heals() -> None:
    async with linked() as link:
        reader, _ = await say(link)
        link.cut("refusing")
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        assert link.has_fired
        again, _ = await asyncio.open_connection("127.0.0.1", link.port)
        with pytest.raises(ConnectionResetError):
            await again.readline()
        link.heal()
        await say(link)


async def test_a_silent_link_holds_what_is_sent_until_it_heals() -> None:
    async with linked() as link:
        reader, writer = await say(link)
        link.cut("silent")
        assert not link.has_fired  # nobody has said anything
        writer.write(b"held\n")
        new, new_writer = await asyncio.open_connection("127.0.0.1", link.port)
        new_writer.write(b"new\n")
        await until(lambda: link.held > 1)
        answers = [asyncio.create_task(each.readline()) for each in (reader, new)]
        assert not (await asyncio.wait(answers, timeout=0))[0]
        link.heal()
        assert await asyncio.gather(*answers) == [b"held\n", b"new\n"]
