"""The configuration files of Kafka and its clients."""

import json
from collections.abc import Mapping
from pathlib import Path

from mesh.durable_files import write_private

USER, READER = "lares", "reader"
# Of the consumer groups that the reader may join. Lares's own begin with the name of a service.
GROUP_PREFIX = f"{READER}."

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:{USER}",
    "auto.create.topics.enable": "false",
    # An acknowledged record survives a power cut, although there is only one node.
    "log.flush.interval.messages": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # LARES_BUS_SESSION_SECONDS may be shorter than Kafka's 6 s.
    "group.min.session.timeout.ms": "500",
    # The controller writes nothing while nothing happens. By default it does so twice a second, for other
    # controllers.
    "metadata.max.idle.interval.ms": "0",
    # Ready 3 s after kill -9 instead of 11 s. Longer ones would save 0.6 % of a core and delay that.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    # The default alone needs 128 MB of heap.
    "log.cleaner.dedupe.buffer.size": "8388608",
    # A request's size is reserved in the heap of 128 MB once it is announced. By default 100 MB may be, and
    # 512 KB even without a password. Lares's own requests have about 16 MB at most: a batch of 256 KB for
    # each of 64 partitions.
    "socket.request.max.bytes": str(32 * 2**20),
    "sasl.server.max.receive.size": "8192",
    # The text beside an offset that the reader commits. It stays in the heap, and is there again after a
    # restart. By default it may have 4 KB.
    "offset.metadata.max.bytes": "128",
}

LOGGING = """\
Configuration:
  status: warn
  Appenders:
    Console:
      name: out
      target: SYSTEM_OUT
      PatternLayout:
        pattern: "%d{ISO8601} %p %c{1}: %m%n"
  Loggers:
    Root:
      level: warn
      AppenderRef:
        - ref: out
"""


def write_server(
    path: Path,
    passwords: Mapping[str, str],
    *,
    data: Path,
    client: str,
    advertised: str,
    controller: str,
) -> None:
    """Writes a broker's settings for one start. Addresses are `host:port`. They may differ at every start,
    because the quorum is configured here and not stored."""
    properties = {
        **SETTINGS,
        **{f"listener.name.{name}.plain.sasl.jaas.config": _logins(passwords) for name in _LISTENERS},
        "log.dirs": str(data),
        "listeners": f"CLIENT://{client},CONTROLLER://{controller}",
        "advertised.listeners": f"CLIENT://{advertised}",
        "controller.quorum.voters": f"1@{controller}",
    }
    _write(path, properties)


def write_client(folder: Path, address: str, user: str, password: str) -> None:
    """Writes the settings of a client, for Java (`client.properties`) and as JSON (`client.json`).

    Java's have a consumer group, because Kafka's command line tools otherwise make up an id of their own.
    """
    properties = {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": f"{_login(user, password)};",
        "group.id": f"{GROUP_PREFIX}main",
    }
    _write(folder / "client.properties", properties)
    client = {"bootstrap": address, "user": user, "password": password, "group_prefix": GROUP_PREFIX}
    write_private(folder / "client.json", json.dumps(client, indent=2) + "\n")


_LISTENERS = ("client", "controller")


def _logins(passwords: Mapping[str, str]) -> str:
    users = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
    return f"{_login(USER, passwords[USER])} {users};"


def _login(user: str, password: str) -> str:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return f'{module} required username="{user}" password="{password}"'


def _write(path: Path, properties: Mapping[str, str]) -> None:
    # A backslash begins an escape in this format.
    lines = (f"{name}={value}\n".replace("\\", "\\\\") for name, value in properties.items())
    write_private(path, "".join(lines))
