"""gRPC targets, and the single replicas behind them."""

import asyncio
import socket

from mesh.addresses import split_address


async def addresses_of(target: str) -> dict[str, str]:
    """The targets of the single replicas behind one of LARES_PEERS, each with the name that its certificate
    must have, or nothing if that is its address. A target that cannot be divided is its only replica."""
    scheme, _, rest = target.partition(":")
    if scheme in ("ipv4", "ipv6"):
        return {f"{scheme}:{address}": "" for address in rest.split(",")}
    if not target.startswith("dns:///"):
        return {target: ""}
    host, port = split_address(target.removeprefix("dns:///"))
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return {target: ""}  # whoever calls it learns why
    addresses = (str(address[0]) for *_, address in found)
    return {_target(address, port): "" if address == host else host for address in addresses}


def _target(address: str, port: int) -> str:
    return f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"
