# mypy: disable-error-code="untyped-decorator"
# (Strawberry's decorators are typed as Any if they are given a description.)
"""The GPUs of the machine where the detector runs. Numbers of bytes are Float, because Int ends at 2 GiB."""

from functools import partial

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import replicas
from gateway.context import Info
from gateway.schema.message_fields import message_field, optional_message_field
from lares.detect.v1 import detect_service_pb2

# As many digits as a 32-bit float holds of a percentage, of degrees or of watts.
round_sample = partial(round, ndigits=3)


@strawberry.type(description="The state of a GPU at one time. What the GPU does not report is null.")
class GpuSample:
    message: strawberry.Private[detect_service_pb2.GpuSample]
    at: Timestamp = message_field("at")
    utilization: float | None = optional_message_field("utilization", round_sample, description="0 to 1.")
    memory_used_bytes: float | None = optional_message_field("memory_used_bytes")
    temperature_celsius: float | None = optional_message_field("temperature_celsius", round_sample)
    power_watts: float | None = optional_message_field("power_watts", round_sample)


@strawberry.type
class Gpu:
    message: strawberry.Private[detect_service_pb2.Gpu]
    index: int = message_field("index")
    uuid: str = message_field("uuid")
    name: str = message_field("name")
    memory_total_bytes: float | None = message_field("memory_total_bytes", lambda total: total or None)
    now: GpuSample = message_field("now", of=GpuSample)
    history: list[GpuSample] = message_field("history", list_of=GpuSample, description="Oldest first.")


async def list_gpus(info: Info, minutes: int | None = 0) -> list[Gpu]:
    return [Gpu(message=gpu) for gpu in (await _list_gpus(info, minutes or 0)).gpus]


async def why_no_gpu(info: Info) -> str | None:
    return (await _list_gpus(info, 0)).detail or None


async def _list_gpus(info: Info, minutes: int) -> detect_service_pb2.ListGpusResponse:
    return await replicas.list_gpus(info.context.siblings, minutes)
