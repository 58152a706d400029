"""The two ways in which services of one process call each other: within it, and over a socket as services of
several processes do."""

from pathlib import Path

import psutil

from mesh.config import SIBLINGS
from tests.support.certificates import write_certificate
from tests.support.lares import Lares, free_ports

CHANNELS = ("in-process", "socket")


def channel_settings(channel: str, folder: Path) -> dict[str, str]:
    """Returns the settings for one of CHANNELS. With `socket` Lares listens for siblings with mutual TLS, as
    in a cluster, and its clients need TLS, too. The certificates are written into the folder."""
    if channel == "in-process":
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    certificates = {f"LARES_{name.upper()}": str(path) for name, path in write_certificate(folder).items()}
    address = f"127.0.0.1:{free_ports(1)[0]}"
    peers = ",".join(f"{service}={address}" for service in SIBLINGS)
    return certificates | {
        "LARES_CHANNELS": channel,
        "LARES_MESH_LISTEN": address,
        "LARES_PEERS": peers,
    }


def used_channel(lares: Lares) -> str:
    """Returns which of CHANNELS the services use: over a socket the process of Lares is connected to
    itself."""
    assert lares.process is not None
    connections = psutil.Process(lares.process.pid).net_connections("tcp")
    own = {connection.laddr for connection in connections}
    return "socket" if any(connection.raddr in own for connection in connections) else "in-process"
