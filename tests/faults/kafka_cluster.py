"""A cluster of one or three Kafka brokers for fault runs. Each broker has a listener for each link that leads
to it, which tells its clients the link's address: that is how Kafka lets a proxy stand before each client."""

import asyncio
import base64
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deploy.embedded.class_archive import class_archive
from deploy.embedded.java import Java, find_java
from deploy.embedded.kafka import JARS
from deploy.embedded.kafka_properties import LOGGING, SETTINGS
from mesh.artifacts import fetch_jars
from mesh.processes.child_process import run_command
from tests.faults.link import Link
from tests.faults.ports import Ports
from tests.faults.server_process import ServerProcess, accepts
from tests.support.parts import CACHE

# What the embedded broker has and these have not: a login, and one node.
WITHOUT = ("sasl.", "listener", "authorizer", "super.users", "inter.broker", "controller.listener")


class KafkaCluster:
    """`links` are the names of those who come by a link of their own. Others, as the harness, use `url`."""

    def __init__(
        self, folder: Path, brokers: int, links: Sequence[str], session_seconds: float, free: Ports
    ) -> None:
        self._folder, self._session_seconds = folder, session_seconds
        ports = free.take(brokers * (2 + len(links)))
        self._ports = [ports[place::brokers] for place in range(brokers)]
        self._java: Java | None = None
        self._options: tuple[str, ...] = ()
        self.brokers = [
            ServerProcess(
                f"kafka-{number + 1}",
                partial(self._command, number),
                partial(accepts, "127.0.0.1", self._ports[number][0]),
                folder / f"kafka-{number + 1}.log",
            )
            for number in range(brokers)
        ]
        # By who comes by them, then by broker.
        self.links = {
            name: [
                Link(
                    f"{name} - kafka-{number + 1}",
                    partial(_fixed, self._ports[number][2 + place]),
                    free.one(),
                )
                for number in range(brokers)
            ]
            for place, name in enumerate(links)
        }

    @property
    def bootstrap(self) -> list[str]:
        return [f"127.0.0.1:{ports[0]}" for ports in self._ports]

    @property
    def url(self) -> str:
        return f"kafka://{','.join(self.bootstrap)}"

    def url_for(self, name: str) -> str:
        """The LARES_BUS_URL of one that comes by a link."""
        return f"kafka://{','.join(link.address for link in self.links[name])}"

    async def start(self) -> None:
        """Makes the brokers' folders, opens the links and starts all."""
        self._java = await find_java(await asyncio.to_thread(fetch_jars, CACHE, JARS))
        self._options = await class_archive(self._java, CACHE)
        for links in self.links.values():
            for link in links:
                await link.listen()
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c")
        for number in range(len(self.brokers)):
            self._write(number)
            await run_command(self._run(*tool, str(self._properties(number))))
        for broker in self.brokers:
            await broker.start()
        for broker in self.brokers:
            await broker.ready()

    def _run(self, *arguments: str) -> list[str]:
        assert self._java is not None
        return self._java.command(
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}", *self._options, *arguments
        )

    async def _command(self, number: int) -> Sequence[str]:
        return self._run("kafka.Kafka", str(self._properties(number)))

    def _properties(self, number: int) -> Path:
        return self._folder / f"kafka-{number + 1}.properties"

    def _write(self, number: int) -> None:
        (self._folder / "log4j2.yaml").write_text(LOGGING)
        brokers = len(self.brokers)
        own, controller, *by_link = self._ports[number]
        listeners = {"OWN": own, "CONTROLLER": controller, **dict(zip(self.links, by_link, strict=True))}
        advertised = {"OWN": own, **{name: links[number].port for name, links in self.links.items()}}
        quorum = ",".join(f"{place + 1}@127.0.0.1:{ports[1]}" for place, ports in enumerate(self._ports))
        session = round(self._session_seconds * 1000)
        settings = {
            **{name: value for name, value in SETTINGS.items() if not name.startswith(WITHOUT)},
            "node.id": str(number + 1),
            "log.dirs": str(self._folder / f"kafka-{number + 1}"),
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "inter.broker.listener.name": "OWN",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": quorum,
            "num.network.threads": "1",
            "num.io.threads": "4",
            "group.min.session.timeout.ms": str(min(session, 1000)),
            "offsets.topic.replication.factor": str(brokers),
            "replica.lag.time.max.ms": "3000",
            # A broker that is back leads its partitions again soon: clients would have nothing to say to it.
            "leader.imbalance.check.interval.seconds": "3",
            "leader.imbalance.per.broker.percentage": "0",
        }
        self._properties(number).write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def _fixed(port: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port)]


def _addresses(ports: dict[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
