"""gRPC servers and calls, with callers, deadlines and Problems as errors."""

from mesh.rpc.client import Channels, call, metadata, stream
from mesh.rpc.errors import problem_of, status_of
from mesh.rpc.protocol import (
    API_KEY,
    AS_ITSELF,
    CALLER_CAMERA,
    CALLER_ID,
    CALLER_NAME,
    CALLER_PERMISSIONS,
    DETAILS,
    Metadata,
)
from mesh.rpc.server import GrpcServer

__all__ = [
    "API_KEY",
    "AS_ITSELF",
    "CALLER_CAMERA",
    "CALLER_ID",
    "CALLER_NAME",
    "CALLER_PERMISSIONS",
    "DETAILS",
    "Channels",
    "GrpcServer",
    "Metadata",
    "call",
    "metadata",
    "problem_of",
    "status_of",
    "stream",
]
