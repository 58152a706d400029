"""Addresses, records, headers and the log filter, without a broker."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import DecodeError

from lares.detect.v1.events_pb2 import MediaDetected
from lares.ingest.v1.events_pb2 import MediaIngested
from mesh.bus.address import KafkaAddress
from mesh.bus.log_filter import filtered_log
from mesh.bus.record import MAX_BYTES, dead_letter, decode, encode, is_for
from mesh.problems import Invalid
from mesh.topics import INGESTED, Topic


def record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Any:
    return SimpleNamespace(
        topic="t", partition=3, offset=7, timestamp=1_500, key=b"front-door", value=value, headers=headers
    )


def test_an_address_with_and_without_a_user() -> None:
    assert KafkaAddress.parse("kafka://a:9092,b:9093").servers == ("a:9092", "b:9093")
    address = KafkaAddress.parse("kafka://lares:p%40ss%2Fword@127.0.0.1:9092")
    assert (address.user, address.password) == ("lares", "p@ss/word")
    assert address.options("x")["security_protocol"] == "SASL_PLAINTEXT"
    assert "security_protocol" not in KafkaAddress.parse("kafka://a:9092").options("x")


@pytest.mark.parametrize(
    "url", ["a:9092", "http://a:9092", "kafka://a", "kafka://", "kafka://u@a:1", "kafka://a:x"]
)
def test_a_bad_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        KafkaAddress.parse(url)
    assert refused.value.reason == "BAD_BUS_URL"
    assert "p@ss" not in repr(KafkaAddress.parse("kafka://lares:p%40ss@a:1"))


def test_a_message_is_decoded_as_it_was_encoded() -> None:
    message = MediaIngested()
    message.media.camera_id = "front-door"
    out = encode(INGESTED, message, {"x-request-id": "r1"})
    assert (out.topic, out.key, out.headers) == (INGESTED.name, b"front-door", [("x-request-id", b"r1")])
    delivery = decode(INGESTED, record(out.value, (("x-request-id", b"r1"),)), 9)
    assert delivery.message == message
    assert (delivery.key, delivery.partition, delivery.offset, delivery.generation) == ("front-door", 3, 7, 9)
    assert delivery.timestamp.isoformat() == "1970-01-01T00:00:01.500000+00:00"
    assert delivery.headers == {"x-request-id": "r1"}


def test_messages_of_another_type_or_too_large_are_refused() -> None:
    with pytest.raises(Invalid, match="carries MediaIngested"):
        encode(cast(Topic[Any], INGESTED), MediaDetected(), {})
    large = MediaIngested()
    large.media.camera_name = "x" * (MAX_BYTES + 1)
    with pytest.raises(Invalid) as refused:
        encode(INGESTED, large, {})
    assert refused.value.reason == "MESSAGE_TOO_LARGE"


@pytest.mark.parametrize("value", [None, b"\xff\xff not a message"])
def test_bytes_that_are_not_a_message_cannot_be_decoded(value: bytes | None) -> None:
    with pytest.raises(DecodeError):
        decode(INGESTED, record(value))


@pytest.mark.parametrize("milliseconds", [-(10**15), 10**15, -(2**63), 2**63 - 1])
def test_a_timestamp_out_of_range_cannot_be_decoded(milliseconds: int) -> None:
    misdated = record(MediaIngested().SerializeToString())
    misdated.timestamp = milliseconds
    with pytest.raises(DecodeError, match="time"):
        decode(INGESTED, misdated)


def test_a_requeued_record_is_for_the_service_it_names() -> None:
    assert is_for(record(b""), "store_svc")
    assert is_for(record(b"", (("requeue-for", b"store_svc"),)), "store_svc")
    assert not is_for(record(b"", (("requeue-for", b"detect_svc"),)), "store_svc")


def test_a_dead_letter_keeps_bytes_and_headers_and_has_its_origin() -> None:
    letter = dead_letter(record(b"\xff", (("x-request-id", b"r1"),)), "detect_svc", "UNDECODABLE", 2)
    assert (letter.topic, letter.key, letter.value) == ("detect.dead.v1", b"front-door", b"\xff")
    assert dict(letter.headers) == {
        "x-request-id": b"r1",
        "origin-topic": b"t",
        "origin-partition": b"3",
        "origin-offset": b"7",
        "reason": b"UNDECODABLE",
        "attempts": b"2",
    }


def test_repeated_and_routine_lines_of_aiokafka_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("aiokafka.conn")
    with filtered_log(), caplog.at_level(logging.WARNING, "aiokafka"):
        logger.warning("Sending username and password in the clear")
        for _ in range(3):
            logger.error("cannot connect")
        logger.error("something else")
    assert [entry.getMessage() for entry in caplog.records] == ["cannot connect", "something else"]
    with caplog.at_level(logging.WARNING, "aiokafka"):
        logger.warning("Sending username and password in the clear")
    assert len(caplog.records) == 3
