"""Reads fields that the records of several topics have, and checks them."""

from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from mesh import times
from mesh.problems import Invalid
from store_svc.ids import parse_uuid
from store_svc.times import micros

EARLIEST, LATEST = micros(times.EARLIEST), micros(times.LATEST)


def read_uuid(text: str, field: str) -> UUID:
    """Raises Invalid (BAD_RECORD) with the name of the field if `text` is not a UUID."""
    try:
        return parse_uuid(text)
    except ValueError:
        raise bad_record(f"{field} {text!r} is not a UUID") from None


def read_time(timestamp: Timestamp, field: str) -> int:
    """In microseconds. Raises Invalid (BAD_RECORD) with the name of the field beyond the years 1 to 9999."""
    at = micros(timestamp)
    if not EARLIEST <= at <= LATEST:
        raise bad_record(f"{field} lies beyond the years 1 to 9999")
    return at


def bad_record(message: str) -> Invalid:
    return Invalid(message, "BAD_RECORD")
