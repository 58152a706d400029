"""`lares probe live|ready|started`: asks the process that listens on this machine's LARES_METRICS_LISTEN, for
health checks of containers. They run every few seconds, so this imports nothing that takes long."""

import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

PROBES = ("live", "ready", "started")
SECONDS = 4.0
SETTING = "LARES_METRICS_LISTEN"
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def main(arguments: list[str]) -> int:
    """Prints the answer. Returns 0 if it is yes, 1 if it is no or if there is none, and 2 for wrong usage."""
    if len(arguments) != 1 or arguments[0] not in PROBES:
        print(f"usage: lares probe {{{','.join(PROBES)}}}", file=sys.stderr)
        return 2
    address = _address()
    if not address:
        print(f"lares: {SETTING} is not set, so there is nothing to ask", file=sys.stderr)
        return 1
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        connection = HTTPConnection(WILDCARDS.get(host, host), int(port), timeout=SECONDS)
        connection.request("GET", f"/{arguments[0]}")
        response = connection.getresponse()
        print(response.read().decode(errors="replace"))
    except (OSError, HTTPException, ValueError) as error:
        print(f"lares: {address} does not answer: {error}", file=sys.stderr)
        return 1
    return 0 if response.status == 200 else 1


def _address() -> str:
    """The setting, from the environment or else from `.env`, as mesh.config reads it."""
    for name, value in os.environ.items():
        if name.upper() == SETTING and value:
            return value
    if not Path(".env").is_file():
        return ""
    from dotenv import dotenv_values

    return next((value or "" for name, value in dotenv_values(".env").items() if name.upper() == SETTING), "")
