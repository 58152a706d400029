"""TCP ports to listen on."""

import asyncio
import errno
import socket

from mesh.problems import Conflict, Invalid

TAKEN_SECONDS = 5.0
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104


async def wait_until_free(host: str, port: int) -> None:
    """Waits until the port can be listened on, for a program that is about to release it.

    Raises Conflict PORT_TAKEN if the port is still taken after 5 s, and Invalid BAD_ADDRESS if this machine
    cannot listen there.
    """
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while not port_is_free(host, port):
        if asyncio.get_running_loop().time() >= deadline:
            message = f"port {port} on {host} is taken by another program: stop it, or choose another port"
            raise Conflict(message, "PORT_TAKEN", host=host, port=str(port))
        await asyncio.sleep(0.1)


def port_is_free(host: str, port: int) -> bool:
    """Whether the port can be listened on now. Raises Invalid BAD_ADDRESS if this machine cannot listen
    there."""
    try:
        _bound(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise Invalid(message, "BAD_ADDRESS", host=host, port=str(port)) from None
    return True


def free_port(host: str) -> int:
    """A port that is free now."""
    with _bound(host, 0) as listener:
        return int(listener.getsockname()[1])


def reachable_host(host: str, *, near: bool = False) -> str:
    """The host by which clients reach a server that listens on `host`, as it is written in a URL.

    A wildcard becomes this machine's address on its network, or loopback for clients on this machine
    (`near`).
    """
    if host in WILDCARDS:
        return WILDCARDS[host] if near else _outward_address() or WILDCARDS[host]
    return f"[{host}]" if ":" in host else host


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # As servers do: connections that were closed a moment ago do not keep the port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _outward_address() -> str | None:
    """The source address that a packet to the internet would have. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
