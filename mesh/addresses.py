"""Addresses in settings: `host:port`, and targets of gRPC."""

from ipaddress import ip_address


def split_address(value: str) -> tuple[str, int]:
    """Splits `host:port`; an IPv6 host is in brackets. Raises ValueError."""
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not host:port")
    try:
        host.encode("idna")  # as the resolver does
    except UnicodeError:
        raise ValueError(f"{value!r} is not host:port") from None
    return host.strip("[]"), int(port)


def is_loopback_host(host: str) -> bool:
    """Whether the host, a name or an address, is this machine and cannot be reached from another one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def grpc_target(value: str) -> str:
    """A target as gRPC takes it: `dns:///host:port`, `dns://server/host:port`, `ipv4:` or `ipv6:` with
    addresses, or `unix:path`. A bare `host:port` is a name to look up. Raises ValueError."""
    scheme, _, rest = value.partition(":")
    match scheme:
        case "unix" if rest:
            return value
        case "ipv4" | "ipv6":
            for address in rest.split(","):
                host, _ = split_address(address)
                if ip_address(host).version != int(scheme[-1]):
                    raise ValueError(f"{host!r} is no address for {scheme}:")
            return value
        case "dns":
            split_address(rest[2:].partition("/")[2] if rest.startswith("//") else rest)
            return value
    split_address(value)
    if "," in value:
        raise ValueError(f"{value!r} is several addresses: write ipv4: or ipv6: before them")
    return f"dns:///{value}"
