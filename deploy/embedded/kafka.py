"""The embedded Kafka 4.3: a child process with its data in the home, open only to clients with a password."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from deploy.embedded.class_archive import class_archive
from deploy.embedded.home import private_folder
from deploy.embedded.java import find_java
from deploy.embedded.kafka_broker import Broker, install
from mesh.addresses import split_address
from mesh.artifacts import fetch_jars, fetching
from mesh.config import naming
from mesh.ports import free_port, wait_until_free
from mesh.processes.supervisor import open_child

JARS = Path(__file__).with_name("jars.lock")


@asynccontextmanager
async def open_kafka(home: Path, listen: str, cache: Path) -> AsyncIterator[str]:
    """Runs a broker until the block ends. Yields its URL, `kafka://lares:<password>@host:port`.

    Port 0 in `listen` means any free port. The settings of clients that only read are in
    `<home>/kafka/client.properties` and `client.json` (0600). Missing jars are downloaded into `cache`.

    Raises Conflict PORT_TAKEN (after 5 s), Invalid BAD_ADDRESS, and Unavailable without Java, without the
    jars, or if the broker does not start.
    """
    host, port = split_address(listen)
    with naming("kafka_listen"):
        port = port or free_port(host)
        await wait_until_free(host, port)
    java = await find_java(await fetching(partial(fetch_jars, cache, JARS)))
    archive = await class_archive(java, cache)
    folder = private_folder(home, "run").with_name("kafka")
    if not folder.exists():
        await install(folder, java, *archive)
    broker = Broker(folder, java, host, port, archive)
    broker.write_client_files()
    async with open_child(broker.child_spec(home / "run")):
        yield broker.url
