"""Measures what mutual TLS costs calls between siblings, beside calls over a socket without it and calls
within the process: small ones, and ones that carry 1 MiB. Caller and server are one process, whose CPU is
measured."""

import time
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from lares.detect.v1 import detect_service_pb2 as detect
from lares.detect.v1 import detect_service_pb2_grpc as detect_rpc
from mesh.rpc import Channels, GrpcServer, call
from mesh.rpc.credentials import server_credentials, sibling_credentials
from mesh.rpc.interceptor import CallInterceptor
from mesh.security import Door, as_itself
from tests.bench.measure import Row, Samples, microseconds
from tests.bench.trees import Bench
from tests.support.certificates import opened, write_certificate

# The bytes that a call carries, and how many calls one sample has.
SIZES = {"small": (100, 2000), "1 MiB": (2**20, 200)}
PLAIN, SECURE, WITHIN = "plaintext", "mutual TLS", "in process"
# How many times as much as these a call by mutual TLS should use at most.
LIMITS = {(PLAIN, "small"): 1.5, (PLAIN, "1 MiB"): 1.5, (WITHIN, "small"): 8.0, (WITHIN, "1 MiB"): 10.0}


class Detector(detect_rpc.DetectServiceServicer):
    async def DetectObjects(
        self, request: detect.DetectObjectsRequest, context: object
    ) -> detect.DetectObjectsResponse:
        return detect.DetectObjectsResponse()


async def measure(bench: Bench) -> list[Row]:
    rows = list[Row]()
    async with AsyncExitStack() as stack:
        channels = await _channels(stack, bench.folder)
        for name, (size, calls) in SIZES.items():
            samples = {way: Samples() for way in channels}
            request = detect.DetectObjectsRequest(camera_id="yard", image=bytes(size))
            for channel in channels.values():
                await _cpu_of_a_call(channel, request, calls // 10)  # connects
            for _ in range(bench.pairs):
                for way, channel in channels.items():
                    samples[way].now.append(await _cpu_of_a_call(channel, request, calls))
            for peer in (PLAIN, WITHIN):
                measured = f"call between siblings, {name}, mutual TLS, CPU"
                limit = LIMITS[peer, name]
                rows.append(samples[SECURE].row_beside(samples[peer], measured, peer, microseconds, limit))
    return rows


async def _channels(stack: AsyncExitStack, folder: Path) -> dict[str, grpc.aio.Channel]:
    """A channel of each kind to one server."""
    tls = opened(write_certificate(folder))
    server = GrpcServer(CallInterceptor)
    detector = Detector()  # type: ignore[abstract]  # the other methods are not called
    server.add(detect_rpc.add_DetectServiceServicer_to_server, detector, "lares.detect.v1.DetectService")
    plain = await server.listen("127.0.0.1:0", door=Door.SIBLINGS)
    secure = await server.listen("127.0.0.1:0", server_credentials(tls, Door.SIBLINGS), door=Door.SIBLINGS)
    await server.start()
    stack.push_async_callback(server.stop, 0)
    opened_channels = {
        PLAIN: Channels({}, {"detect": plain}),
        SECURE: Channels({}, {"detect": secure}, sibling_credentials(tls)),
        WITHIN: Channels({"detect": server.channel()}, {}),
    }
    for channels in opened_channels.values():
        stack.push_async_callback(channels.close)
    return {way: channels.to("detect") for way, channels in opened_channels.items()}


async def _cpu_of_a_call(
    channel: grpc.aio.Channel, request: detect.DetectObjectsRequest, calls: int
) -> float:
    """In seconds, with the server's part."""
    stub = detect_rpc.DetectServiceStub(channel)
    with as_itself():
        began = time.process_time()
        for _ in range(calls):
            await call(stub.DetectObjects, request)
        return (time.process_time() - began) / calls
