"""Permissions of Kafka users, granted and taken back by an administrator of the broker."""

from typing import Any, NamedTuple

from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from mesh.bus.access import KafkaAccess
from mesh.bus.cluster import Cluster, open_cluster
from mesh.bus.log_filter import filtered_log
from mesh.bus.settings import BusSettings
from mesh.problems import Unavailable

# Numbers of the Kafka protocol.
ANY, TOPIC, GROUP = 1, 2, 3
LITERAL, PREFIXED, ALLOW = 3, 4, 3
READ, DESCRIBE = 3, 8

PATIENCE_SECONDS = 60.0


class Permission(NamedTuple):
    """What a user may do from any host: `pattern` says whether `name` is a whole name or a prefix."""

    resource: int
    name: str
    pattern: int
    operation: int


async def grant_read(url: str, user: str, group_prefix: str) -> None:
    """Lets `user` read every topic, as a member of groups whose ids begin with `group_prefix`, and nothing
    else: takes back whatever else it was allowed before.

    `url` is `kafka://admin:password@host:port`. Raises Unavailable if the broker refuses it.
    """
    wanted = {
        Permission(TOPIC, "*", LITERAL, READ),
        Permission(TOPIC, "*", LITERAL, DESCRIBE),
        Permission(GROUP, group_prefix, PREFIXED, READ),
    }
    # The embedded Kafka has no TLS: whether it may listen beyond loopback is settled before it starts.
    access = KafkaAccess(url, BusSettings(allow_plaintext=True))
    with filtered_log():
        async with open_cluster(access, "lares-acls", patience=PATIENCE_SECONDS) as cluster:
            found = await _permissions(cluster, user)
            for permission in sorted(wanted - found.keys()):
                answer = await cluster.command(CreateAclsRequest(*_binding(permission, user)))
                for code, message in answer.creation_responses:
                    _require(code, message, user)
            for permission in sorted(found.keys() - wanted):
                for host, allowed in found[permission]:
                    await _delete(cluster, permission, user, host, allowed)


async def _permissions(cluster: Cluster, user: str) -> dict[Permission, list[tuple[str, int]]]:
    """Returns what is granted or denied to the user, each with its hosts and whether it is allowed."""
    answer = await cluster.command(DescribeAclsRequest(ANY, None, ANY, f"User:{user}", None, ANY, ANY))
    _require(answer.error_code, answer.error_message, user)
    found: dict[Permission, list[tuple[str, int]]] = {}
    for resource, name, pattern, bindings in answer.resources:
        for _, host, operation, allowed in bindings:
            found.setdefault(Permission(resource, name, pattern, operation), []).append((host, allowed))
    return found


async def _delete(cluster: Cluster, permission: Permission, user: str, host: str, allowed: int) -> None:
    request = DeleteAclsRequest(*_binding(permission, user, host, allowed))
    for code, message, matching in (await cluster.command(request)).filter_responses:
        _require(code, message, user)
        for match_code, match_message, *_ in matching:
            _require(match_code, match_message, user)


def _binding(permission: Permission, user: str, host: str = "*", allowed: int = ALLOW) -> tuple[Any, ...]:
    resource, name, pattern, operation = permission
    return resource, name, pattern, f"User:{user}", host, operation, allowed


def _require(code: int, message: str | None, user: str) -> None:
    if code:
        reason = "BUS_UNAVAILABLE"
        raise Unavailable(f"Kafka does not set the permissions of user {user}: {message or code}", reason)
