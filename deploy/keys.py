"""`lares keys`: over the private socket of a running Lares, so that no key is needed to make one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from deploy.opening import mesh_socket
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import Config
from mesh.problems import Unavailable
from mesh.rpc import Channels, call


@asynccontextmanager
async def running_lares(config: Config) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the Lares that runs on this home, as one of its own services. Raises Unavailable, where
    nobody listens there NOT_RUNNING."""
    channels = Channels({"store": mesh_socket(config.home)}, {})
    try:
        yield channels.to("store")
    except Unavailable as problem:
        # gRPC's own word for it; what Lares itself says has another reason.
        if problem.reason == grpc.StatusCode.UNAVAILABLE.name:
            message = f"no Lares runs on {config.home}: start it with `lares up`"
            raise Unavailable(message, "NOT_RUNNING") from None
        message = f"Lares runs on {config.home}, but does not do this now: {problem.message}"
        raise Unavailable(message, problem.reason) from None
    finally:
        await channels.close()


async def create(config: Config, name: str) -> None:
    async with running_lares(config) as store:
        answer = await call(keys_rpc.KeyServiceStub(store).CreateKey, keys.CreateKeyRequest(name=name))
    print(answer.secret)


async def print_all(config: Config) -> None:
    async with running_lares(config) as store:
        answer = await call(keys_rpc.KeyServiceStub(store).ListKeys, keys.ListKeysRequest())
    for key in answer.keys:
        state = "revoked" if key.HasField("revoked_at") else "valid"
        print(f"{key.id}  {key.created_at.ToJsonString()}  {state:8}{key.name}")


async def revoke(config: Config, key_id: str) -> None:
    async with running_lares(config) as store:
        await call(keys_rpc.KeyServiceStub(store).RevokeKey, keys.RevokeKeyRequest(key_id=key_id))
    print(f"{key_id} revoked")
