"""What both ends of a gRPC call share: names of headers, the limit of a message, options of connections."""

from typing import TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

API_KEY = "x-api-key"
# A call between siblings carries either the first three of these or the last.
CALLER_ID, CALLER_NAME = "x-lares-caller-id", "x-lares-caller-name-bin"
CALLER_PERMISSIONS = "x-lares-caller-permissions"
# Beside them, if the caller has the key of a camera.
CALLER_CAMERA = "x-lares-caller-camera"
AS_ITSELF = "x-lares-as-itself"
DETAILS = "grpc-status-details-bin"
# Enough for a thousand pages of detections, which siblings request at once.
MESSAGE_BYTES = 64 * 2**20

MAX_RECEIVE = "grpc.max_receive_message_length"
# Of servers and of channels.
CONNECTION_OPTIONS = [
    (MAX_RECEIVE, MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Pings find out that the other machine or the way to it is gone. They are sent although nothing else is:
    # a stream that watches a service's health may say nothing for days.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC measures a connection by pings of its own, and sends no other while one of them has no answer.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
SERVER_OPTIONS = [
    *CONNECTION_OPTIONS,
    ("grpc.so_reuseport", 0),
    # A third of what clients send. A server that expects fewer pings ends the connection (ENHANCE_YOUR_CALM).
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]
CHANNEL_OPTIONS = [
    *CONNECTION_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Despite its name not a pause, but the time limit of one attempt to connect.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    # A name is looked up again whenever a connection ends, but not more often than this.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
]


def sibling_health(service: str) -> str:
    """The name by which gRPC's health service knows whether siblings can call `store`, `detect` and so on."""
    return f"lares.{service}"
