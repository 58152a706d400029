"""How long a call may wait."""

from google.protobuf.duration_pb2 import Duration

MAX_WAIT_SECONDS = 30.0


def wait_seconds(wait: Duration) -> float:
    """The seconds of a request's `wait`, shortened to MAX_WAIT_SECONDS."""
    return min(max(wait.seconds + wait.nanos / 1e9, 0.0), MAX_WAIT_SECONDS)
