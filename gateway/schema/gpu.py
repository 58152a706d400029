# mypy: disable-error-code="untyped-decorator"
# (Strawberry types its decorators as Any where they are given a description.)
"""The GPUs where the detector runs. Numbers of bytes are Float, for Int ends at 2 GiB."""

from functools import partial

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.context import Info
from gateway.schema.reading import read, read_if_set
from lares.detect.v1 import detect_service_pb2
from mesh.rpc import call

# As many digits as 32 bits hold of a percentage, degrees or watts.
tidy = partial(round, ndigits=3)


@strawberry.type(description="What a GPU does not tell is null.")
class GpuSample:
    message: strawberry.Private[detect_service_pb2.GpuSample]
    at: Timestamp = read("at")
    utilization: float | None = read_if_set("utilization", tidy, description="0..1.")
    memory_used_bytes: float | None = read_if_set("memory_used_bytes")
    temperature_celsius: float | None = read_if_set("temperature_celsius", tidy)
    power_watts: float | None = read_if_set("power_watts", tidy)


@strawberry.type
class Gpu:
    message: strawberry.Private[detect_service_pb2.Gpu]
    index: int = read("index")
    uuid: str = read("uuid")
    name: str = read("name")

    @strawberry.field
    def memory_total_bytes(self) -> float | None:
        return self.message.memory_total_bytes or None

    @strawberry.field
    def now(self) -> GpuSample:
        return GpuSample(message=self.message.now)

    @strawberry.field(description="Oldest first.")
    def history(self) -> list[GpuSample]:
        return [GpuSample(message=sample) for sample in self.message.history]


async def list_gpus(info: Info, minutes: int | None = 0) -> list[Gpu]:
    return [Gpu(message=gpu) for gpu in (await _asked(info, minutes or 0)).gpus]


async def why_no_gpu(info: Info) -> str | None:
    return (await _asked(info, 0)).detail or None


async def _asked(info: Info, minutes: int) -> detect_service_pb2.ListGpusResponse:
    request = detect_service_pb2.ListGpusRequest(minutes=minutes)
    return await call(info.context.siblings.detect.ListGpus, request)
