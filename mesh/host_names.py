"""Names of hosts, and IP addresses."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", re.ASCII)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that `host` is, without the zone of a link-local one; None if it is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def is_host_name(host: str) -> bool:
    """Whether `host` is an IP address, or a name that can be in a certificate; `*` may be its first label."""
    if address_of(host):
        return True
    labels = host.removeprefix("*.").split(".")
    return len(host) <= 253 and all(LABEL.fullmatch(label) for label in labels)
