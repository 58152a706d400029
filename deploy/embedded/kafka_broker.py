"""A Kafka broker that is its own controller (KRaft): its folder, its ports, and how it is started."""

import asyncio
import base64
import json
import secrets
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.java import Java
from deploy.embedded.kafka_properties import (
    GROUP_PREFIX,
    LOGGING,
    READER,
    USER,
    write_client,
    write_server,
)
from mesh.bus.acls import grant_read
from mesh.durable_files import sync_folder, write_private
from mesh.ports import free_port, reachable_host, wait_until_free
from mesh.processes.child_process import run_command
from mesh.processes.supervisor import ChildSpec

READY_SECONDS = 120.0
# Errors that pass once an earlier broker has ended completely.
TEMPORARY_ERRORS = ("Failed to acquire lock on file", "Address already in use")


@dataclass(frozen=True)
class Broker:
    """`folder` is one that `install` has made. `options` are additional options for Java."""

    folder: Path
    java: Java
    host: str
    port: int
    options: Sequence[str] = ()

    @property
    def url(self) -> str:
        """The URL for programs on this machine, with all permissions."""
        return f"kafka://{USER}:{self._passwords()[USER]}@{self._near}:{self.port}"

    def child_spec(self, run: Path) -> ChildSpec:
        """How to run the broker. Its log and its pid file are in `run`."""
        return ChildSpec(
            name="kafka",
            folder=run,
            prepare=self.prepare,
            ready=self.ready,
            ready_seconds=READY_SECONDS,
            retry_start=lambda tail: any(text in tail for text in TEMPORARY_ERRORS),
        )

    async def prepare(self) -> Sequence[str]:
        """Writes the settings and returns the command. Raises Conflict PORT_TAKEN."""
        await wait_until_free(self.host, self.port)
        host = f"[{self.host}]" if ":" in self.host else self.host
        properties = self.folder / "server.properties"
        write_server(
            properties,
            self._passwords(),
            data=self.folder / "data",
            client=f"{host}:{self.port}",
            advertised=f"{reachable_host(self.host)}:{self.port}",
            controller=f"127.0.0.1:{free_port('127.0.0.1')}",
        )
        return self.java.command(*_logging(self.folder), *self.options, "kafka.Kafka", str(properties))

    async def ready(self) -> bool:
        """Whether broker and controller serve requests. Gives the reader its permissions, for which both
        are needed."""
        _, writer = await asyncio.open_connection(self._near.strip("[]"), self.port)
        writer.close()
        await grant_read(self.url, READER, GROUP_PREFIX)
        return True

    def write_client_files(self) -> None:
        """Writes the settings of clients that only read, for example for analytics."""
        address = f"{reachable_host(self.host)}:{self.port}"
        write_client(self.folder, address, READER, self._passwords()[READER])

    @property
    def _near(self) -> str:
        return reachable_host(self.host, near=True)

    def _passwords(self) -> dict[str, str]:
        passwords: dict[str, str] = json.loads((self.folder / "passwords.json").read_text())
        return passwords


async def install(folder: Path, java: Java, *options: str) -> None:
    """Makes the folder, with passwords and formatted storage. It gets its final name last, so that a folder
    with that name is complete. Raises Unavailable with the output of Kafka's tool."""
    for left in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    new = folder.with_name(f"{folder.name}.new-{secrets.token_hex(4)}")
    new.mkdir(mode=0o700)
    passwords = {user: secrets.token_urlsafe(24) for user in (USER, READER)}
    write_private(new / "passwords.json", json.dumps(passwords))
    (new / "log4j2.yaml").write_text(LOGGING)
    unused = "127.0.0.1:1"
    properties = new / "server.properties"
    write_server(
        properties, passwords, data=new / "data", client=unused, advertised=unused, controller="127.0.0.1:2"
    )
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # As one argument, because the id may begin with a dash.
    tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties))
    await run_command(java.command(*_logging(new), *options, *tool))
    await asyncio.to_thread(sync_folder, new)
    new.rename(folder)
    await asyncio.to_thread(sync_folder, folder.parent)


def _logging(folder: Path) -> tuple[str]:
    return (f"-Dlog4j2.configurationFile={folder / 'log4j2.yaml'}",)
