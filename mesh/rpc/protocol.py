"""What both ends of a gRPC call agree on: headers, message bounds and connection options."""

from typing import TypeAlias

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

API_KEY = "x-api-key"
# A call between siblings has either the first three of these, or the last.
CALLER_ID, CALLER_NAME = "x-lares-caller-id", "x-lares-caller-name-bin"
CALLER_PERMISSIONS = "x-lares-caller-permissions"
AS_ITSELF = "x-lares-as-itself"
DETAILS = "grpc-status-details-bin"
# A thousand pages of detections, which siblings ask for at once.
MESSAGE_BYTES = 64 * 2**20

MAX_RECEIVE = "grpc.max_receive_message_length"
CHANNEL_OPTIONS = [
    (MAX_RECEIVE, MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # By its name a pause, in fact how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 10_000),
]
