"""`lares keys`: manages API keys over the operator socket of a running Lares, which needs no key."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc

from deploy.mesh_factory import operator_socket
from lares.store.v1 import key_service_pb2 as keys
from lares.store.v1 import key_service_pb2_grpc as keys_rpc
from mesh.config import Config
from mesh.permissions import OF_A_KEY, Permission, short_name
from mesh.problems import Invalid, Unavailable
from mesh.rpc import Metadata, call
from mesh.visible_text import visible

# Callers on the operator socket need no credentials.
HEADERS: Metadata = ()


@asynccontextmanager
async def key_service(config: Config) -> AsyncIterator["keys_rpc.KeyServiceAsyncStub"]:
    """Yields the KeyService of the Lares that uses this home.

    Within the block, an unavailable Lares raises Unavailable, with the reason NOT_RUNNING if nothing listens.
    """
    async with grpc.aio.insecure_channel(operator_socket(config.home)) as channel:
        with saying_where(f"on {config.home}"):
            yield keys_rpc.KeyServiceStub(channel)


@contextmanager
def saying_where(place: str) -> Iterator[None]:
    """Rewrites Unavailable raised in the block so that its message names `place`."""
    try:
        yield
    except Unavailable as problem:
        # This reason comes from gRPC: nothing listens. Lares's own problems have other reasons.
        if problem.reason == grpc.StatusCode.UNAVAILABLE.name:
            message = f"no Lares is running {place}: start it with `lares up`"
            raise Unavailable(message, "NOT_RUNNING") from None
        message = f"Lares is running {place}, but cannot do this now: {problem.message}"
        raise Unavailable(message, problem.reason) from None


async def create(config: Config, name: str, permissions: Iterable[Permission], camera_id: str = "") -> str:
    """Returns the key's plain text. One of a camera may upload media of that camera and nothing else."""
    if visible(name) != name:  # which also is what the terminal could not decode
        raise Invalid("a key's name has no line breaks or other control characters", "BAD_KEY_NAME")
    async with key_service(config) as service:
        request = keys.CreateKeyRequest(name=name, permissions=sorted(set(permissions)), camera_id=camera_id)
        answer = await call(service.CreateKey, request, headers=HEADERS)
    return answer.secret


async def print_all(config: Config) -> None:
    async with key_service(config) as service:
        answer = await call(service.ListKeys, keys.ListKeysRequest(), headers=HEADERS)
    for key in answer.keys:
        state = "revoked" if key.HasField("revoked_at") else "valid"
        limited = key.permissions and OF_A_KEY - frozenset(key.permissions)
        camera = f" for {visible(key.camera_id)}" if key.camera_id else ""
        names = f"  [{', '.join(map(short_name, key.permissions))}{camera}]" if limited else ""
        print(f"{key.id}  {key.created_at.ToJsonString()}  {state:8}{visible(key.name)}{names}")


async def revoke(config: Config, key_id: str) -> None:
    async with key_service(config) as service:
        await call(service.RevokeKey, keys.RevokeKeyRequest(key_id=key_id), headers=HEADERS)
    print(f"{key_id} revoked")
