"""Prints every change of an event, read from Kafka as the read-only user that Lares creates.

    .venv/bin/python examples/kafka_consumer.py [--home data] [--count 10] [--timeout 60] [--group my-program]

Needs `aiokafka`, and from Lares only the generated messages in proto/gen.
"""

import argparse
import asyncio
import json
import logging
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1.event_pb2 import EventStatus
from lares.store.v1.events_pb2 import EventChanged

TOPIC = "store.feed.v1"


def main() -> None:
    options = parser().parse_args()
    # aiokafka warns about a password without TLS, which the loopback interface does not need.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    try:
        asyncio.run(consume(options))
    except KeyboardInterrupt:
        pass
    except KafkaError as error:
        raise SystemExit(f"Kafka: {error}") from None
    except FileNotFoundError as error:
        raise SystemExit(
            f"{error.filename} does not exist: was Lares started with this home folder?"
        ) from None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=Path("data"), help="Lares's home folder")
    parser.add_argument("--count", type=int, default=0, help="exit after this many changes")
    parser.add_argument("--timeout", type=float, default=None, help="exit after this many seconds")
    parser.add_argument(
        "--group", help="remember the position under this name; by default start with the oldest record"
    )
    return parser


async def consume(options: argparse.Namespace) -> None:
    client = json.loads((options.home / "kafka" / "client.json").read_text())
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=client["bootstrap"],
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_plain_username=client["user"],
        sasl_plain_password=client["password"],
        # The user may only join groups whose ids begin with this prefix.
        group_id=options.group and client["group_prefix"] + options.group,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    handled = printed = 0
    try:
        async with asyncio.timeout(options.timeout):
            async for record in consumer:
                change = EventChanged.FromString(record.value)
                # Kafka delivers at least once. Sequences only increase, which makes repetitions easy to skip.
                if change.sequence <= handled:
                    continue
                handled = change.sequence
                print(line(change), flush=True)
                printed += 1
                if printed == options.count:
                    return
    except TimeoutError:
        pass
    finally:
        await consumer.stop()


def line(change: EventChanged) -> str:
    event = change.event
    if change.deleted:
        return f"{change.sequence} {event.id} deleted"
    status = EventStatus.Name(event.status).removeprefix("EVENT_STATUS_")
    text = f"{change.sequence} {event.id} {event.camera_id} {','.join(event.labels)} {status}"
    if event.HasField("assessment"):
        assessment = event.assessment
        severity = Severity.Name(assessment.severity).removeprefix("SEVERITY_")
        text += f" {assessment.score} {severity}: {assessment.summary}"
    return visible(text)


def visible(text: str) -> str:
    """A camera's name or a label may hold what a terminal obeys."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


if __name__ == "__main__":
    main()
