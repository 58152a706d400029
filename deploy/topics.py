"""`lares topics`: compares the topics of a Kafka of your own with those that Lares needs, and creates
them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.mesh_factory import EMBEDDED
from mesh.bus import BusSettings
from mesh.bus.access import KafkaAccess
from mesh.bus.topic_admin import TopicAdmin, open_topic_admin
from mesh.config import Config
from mesh.problems import Invalid
from mesh.visible_text import visible

AS_IT_SHOULD_BE = "all topics are as they should be"


async def plan_topics(config: Config) -> bool:
    """Prints what is not as it should be. Returns whether there is anything."""
    async with _admin(config) as admin:
        plan = await admin.plan()
    for difference in plan:
        print(visible(str(difference)))
    if not plan:
        print(AS_IT_SHOULD_BE)
    return bool(plan)


async def apply_topics(config: Config) -> bool:
    """Prints each change, and what is left to do by hand. Returns whether anything is left. Raises Conflict
    TOPIC_PARTITIONS, before any change, if a topic in use has another number of partitions."""
    async with _admin(config) as admin:
        left = await admin.apply(lambda done: print(visible(done)))
    for difference in left:
        print(visible(str(difference)))
    if not left:
        print(AS_IT_SHOULD_BE)
    return bool(left)


@asynccontextmanager
async def _admin(config: Config) -> AsyncIterator[TopicAdmin]:
    """Raises Invalid BAD_SETTING for the embedded Kafka, and as `open_topic_admin`."""
    if config.bus_url == EMBEDDED:
        raise Invalid(
            "LARES_BUS_URL: the embedded Kafka gets its topics from `lares up`; name the Kafka of your own",
            "BAD_SETTING",
        )
    async with open_topic_admin(KafkaAccess(config.secret("bus_url"), BusSettings.of(config))) as admin:
        yield admin
