"""What of aiokafka's log reaches ours."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Said of every connection, and in every group's first seconds: neither needs anybody.
_NOISE = (
    "Sending username and password in the clear",
    "CoordinatorNotAvailable",
    "Marking the coordinator dead",
)
_LOGGERS = tuple(
    f"aiokafka{name}"
    for name in ("", ".conn", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender")
)
# A broker that is away is else complained of dozens of times a second.
REPEAT_SECONDS = 10.0
KEPT = 200


class AiokafkaLogFilter(logging.Filter):
    """Drops those lines, and repetitions of one line within 10 s."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if (
            any(noise in text for noise in _NOISE)
            or now - self._said.get(text, -REPEAT_SECONDS) < REPEAT_SECONDS
        ):
            return False
        if len(self._said) >= KEPT:
            self._said.clear()
        self._said[text] = now
        return True


@contextmanager
def filtered_log() -> Iterator[None]:
    """Within this block aiokafka keeps to what is worth reading."""
    log_filter = AiokafkaLogFilter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(log_filter)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(log_filter)
