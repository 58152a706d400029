"""Prints every change of an event as it happens, over the WebSocket protocol graphql-transport-ws.

    .venv/bin/python examples/graphql_subscription.py                changes from now on
    .venv/bin/python examples/graphql_subscription.py --after 0      first every change that is kept

Needs `websockets`, and nothing from Lares.
"""

import argparse
import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

CHANGES = """subscription ($after: String) {
  eventChanged(after: $after) {
    cursor
    event { id status startedAt labels camera { name } assessment { score severity summary } }
  }
}"""


def main() -> None:
    options = parser().parse_args()
    try:
        asyncio.run(subscribe(options))
    except KeyboardInterrupt:
        pass
    except (OSError, ConnectionClosed) as error:
        raise SystemExit(f"{options.url}: {error}") from None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="ws://127.0.0.1:8000/graphql")
    parser.add_argument(
        "--key-file", type=Path, default=Path("data/admin.key"), help="a file that contains an API key"
    )
    parser.add_argument(
        "--tls-ca", type=Path, help="for wss://: a PEM file with the certificate authorities to trust"
    )
    parser.add_argument("--after", help="start after this cursor; 0 is before the oldest change")
    parser.add_argument("--count", type=int, default=0, help="exit after this many changes")
    return parser


async def subscribe(options: argparse.Namespace) -> None:
    key = options.key_file.read_text().strip()
    tls: dict[str, Any] = {}
    if options.tls_ca:
        tls["ssl"] = ssl.create_default_context(cafile=options.tls_ca)
    async with connect(options.url, subprotocols=[Subprotocol("graphql-transport-ws")], **tls) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"x-api-key": key}}))
        payload = {"query": CHANGES, "variables": {"after": options.after}}
        printed = 0
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "connection_ack":
                await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            elif message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif message["type"] == "error":
                raise SystemExit(message["payload"][0]["message"])
            elif message["type"] == "next":
                print(json.dumps(message["payload"]["data"]["eventChanged"]), flush=True)
                printed += 1
                if printed == options.count:
                    return


if __name__ == "__main__":
    main()
