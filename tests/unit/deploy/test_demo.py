"""The lines that `lares demo` and the examples print."""

from collections.abc import Callable

import pytest

from deploy import demo
from examples import grpc_client, kafka_consumer
from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_pb2 import Event
from lares.store.v1.events_pb2 import EventChanged

HOSTILE = "\x1b]0;owned\x07\n\x9b2J\u202e"
EVENT = Event(
    id="1", camera_id="front", camera_name=f"Küche {HOSTILE}", labels=[f"dog{HOSTILE}"],
    assessment=Assessment(score=3, summary=f"A dog.{HOSTILE}"),
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        lambda: demo.line(EventChanged(event=EVENT)),
        lambda: grpc_client.line(EVENT),
        lambda: kafka_consumer.line(EventChanged(event=EVENT)),
    ],
)
def test_names_cannot_give_the_terminal_orders(line: Callable[[], str]) -> None:
    assert line().isprintable()
    assert r"A dog.\x1b]0;owned\x07\n\x9b2J\u202e" in line()
    assert "dog" in line()
