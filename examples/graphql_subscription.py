"""Prints every change of an event as it comes, over GraphQL's WebSocket protocol graphql-transport-ws.

    .venv/bin/python examples/graphql_subscription.py                after now
    .venv/bin/python examples/graphql_subscription.py --after 0      everything that is kept, then live

Needs `websockets`, nothing of Lares.
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
    parser.add_argument("--key-file", type=Path, default=Path("data/admin.key"), help="holds an API key")
    parser.add_argument("--tls-ca", type=Path, help="for wss://: this PEM file tells whom to trust")
    parser.add_argument("--after", help="a cursor, to go on after it; 0 is the oldest kept")
    parser.add_argument("--count", type=int, default=0, help="end after so many changes")
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
