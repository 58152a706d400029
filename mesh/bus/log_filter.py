"""Keeps aiokafka's routine and repeated log lines out of the log."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cachetools import TTLCache

# Logged for every connection, and in the first seconds of every group.
_ROUTINE = (
    "Sending username and password in the clear",
    "CoordinatorNotAvailable",
    "Marking the coordinator dead",
)
_LOGGERS = tuple(
    f"aiokafka{name}"
    for name in ("", ".conn", ".consumer.fetcher", ".consumer.group_coordinator", ".producer.sender")
)
# aiokafka logs a broker that is down dozens of times a second.
REPEAT_SECONDS = 10.0
MAX_REMEMBERED = 200


class AiokafkaLogFilter(logging.Filter):
    """Drops routine lines, and repetitions of a line within 10 s."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._recent: TTLCache[str, None] = TTLCache(MAX_REMEMBERED, REPEAT_SECONDS)

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        with self._lock:
            if text in self._recent or any(routine in text for routine in _ROUTINE):
                return False
            self._recent[text] = None
        return True


@contextmanager
def filtered_log() -> Iterator[None]:
    """Applies the filter to aiokafka's loggers within the block."""
    log_filter = AiokafkaLogFilter()
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(log_filter)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(log_filter)
