"""The names of this machine that certificates of Lares's own are for."""

import socket
from collections.abc import Collection
from threading import Thread

from mesh.addresses import split_address
from mesh.config import Config
from mesh.host_names import is_host_name
from mesh.ports import WILDCARDS, reachable_host

LOCAL = ("localhost", "127.0.0.1", "::1")
RESOLVER_SECONDS = 2.0


def own_names(config: Config, targets: Collection[str]) -> list[str]:
    """This machine's names, the addresses that are listened on, those of siblings in a cluster, and
    LARES_TLS_NAMES. Blocks, for 2 s if the resolver does not answer."""
    hosts = [
        split_address(address)[0]
        for name in type(config).model_fields
        if name.endswith("_listen") and (address := getattr(config, name))
    ]
    found = [*LOCAL, socket.gethostname(), _full_name(), *config.tls_names]
    found += [reachable_host(host).strip("[]") if host in WILDCARDS else host for host in hosts]
    if config.mesh_listen:
        found += [f"lares-{target}" for target in targets]
    return list(dict.fromkeys(filter(is_host_name, found)))


def _full_name() -> str:
    found = list[str]()
    resolver = Thread(target=lambda: found.append(socket.getfqdn()), name="own-name", daemon=True)
    resolver.start()
    resolver.join(RESOLVER_SECONDS)
    return found[0] if found else ""
