"""Permissions of Kafka users, granted by an administrator of the broker."""

from aiokafka.protocol.admin import CreateAclsRequest

from mesh.bus.address import KafkaAddress
from mesh.bus.cluster import open_cluster
from mesh.bus.log_filter import filtered_log
from mesh.problems import Unavailable

# Numbers of the Kafka protocol.
TOPIC, GROUP = 2, 3
LITERAL, ALLOW = 3, 3
READ, DESCRIBE = 3, 8
READER = ((TOPIC, READ), (TOPIC, DESCRIBE), (GROUP, READ))

PATIENCE_SECONDS = 60.0


async def grant_read(url: str, user: str) -> None:
    """Lets `user` read every topic in any group, and nothing else. Has no effect if it is granted already.

    `url` is `kafka://admin:password@host:port`. Raises Unavailable if the broker does not grant it.
    """
    with filtered_log():
        async with open_cluster(KafkaAddress.parse(url), "lares-acls", patience=PATIENCE_SECONDS) as cluster:
            for kind, operation in READER:
                request = CreateAclsRequest(kind, "*", LITERAL, f"User:{user}", "*", operation, ALLOW)
                for code, message in (await cluster.command(request)).creation_responses:
                    if code:
                        raise Unavailable(
                            f"Kafka does not grant user {user} read access: {message or code}",
                            "BUS_UNAVAILABLE",
                        )
