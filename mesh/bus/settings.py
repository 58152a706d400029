"""The settings of the bus beside LARES_BUS_URL."""

from dataclasses import dataclass
from pathlib import Path

from mesh.config import Config
from mesh.topics import CAMERA_PARTITIONS


@dataclass(frozen=True)
class BusSettings:
    """`ca` (PEM) replaces the system's CAs; `cert` and `key` are this client's. `session_seconds`: after how
    long without a sign of life a member of a group is given up; None: the bus's own. `replicas` of new
    topics; None: three, or as many as there are brokers. `partitions` are those of the cameras' topics."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    allow_plaintext: bool = False
    session_seconds: float | None = None
    replicas: int | None = None
    partitions: int = CAMERA_PARTITIONS

    @classmethod
    def of(cls, config: Config) -> "BusSettings":
        return cls(
            ca=config.bus_ca,
            cert=config.bus_cert,
            key=config.bus_key,
            allow_plaintext=config.allow_plaintext,
            session_seconds=config.bus_session_seconds,
            replicas=config.topic_replicas,
            partitions=config.topic_partitions,
        )


DEFAULT = BusSettings()
