"""A whole Lares on a Kafka with logins over TLS gets another number of partitions, as docs/deploy.md says."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import asyncpg
from aiokafka.protocol.admin import DeleteTopicsRequest

from mesh.topics import INGESTED, TOPICS
from tests.support.lares import ROOT, Lares
from tests.support.lares_command import lares_command
from tests.support.photos import person_photo
from tests.support.secured_kafka import SecuredKafka, running_secured_kafka

PARTITIONS = "LARES_TOPIC_PARTITIONS"


async def test_a_lares_in_use_gets_other_partitions(tmp_path: Path, postgres_url: str) -> None:
    async with running_secured_kafka(["lares"]) as kafka:
        password = tmp_path / "password"
        password.write_text("first-secret\n")
        await kafka.set_password("lares", "first-secret")
        settings = {
            "LARES_BUS_URL": kafka.url("secure", mechanism="SCRAM-SHA-512").replace("://", "://lares@"),
            "LARES_BUS_PASSWORD_FILE": str(password),
            "LARES_BUS_CA": str(kafka.ca),
            "LARES_DATABASE_URL": postgres_url,
            "LARES_EVENT_GAP_SECONDS": "1",
            "LARES_EVENT_SPAN_SECONDS": "3",
        }
        assert await events(tmp_path, settings | {PARTITIONS: "3"}, "one") == {"one"}
        assert await kafka.cluster.partitions([INGESTED.name]) == {INGESTED.name: 3}
        status, text = await lares_command(settings | {PARTITIONS: "5"}, "topics", "apply")
        assert (status, "nothing was changed" in text) == (1, True)
        await delete_topics_of_cameras(kafka)
        await kafka.set_password("lares", "second-secret")
        password.write_text("second-secret\n")
        status, text = await lares_command(settings | {PARTITIONS: "5"}, "topics", "apply")
        assert status == 0, text
        # The store knows that these are not the topics whose offsets it has.
        lares = Lares(tmp_path / "home", settings | {PARTITIONS: "5"})
        lares.start()
        assert lares.process is not None
        assert await asyncio.to_thread(lares.process.wait, 90) == 1
        assert "created anew" in lares.tail()
        connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
        await connection.execute(statement_of_the_page())
        await connection.close()
        assert await events(tmp_path, settings | {PARTITIONS: "5"}, "two") == {"one", "two"}
        assert await kafka.cluster.partitions([INGESTED.name]) == {INGESTED.name: 5}


async def events(folder: Path, settings: Mapping[str, str], camera: str) -> set[str]:
    """Runs Lares for one photo of the camera. Returns the cameras of all events, which are assessed."""
    lares = Lares(folder / "home", settings)
    lares.start()
    try:
        await lares.ready()
        (lares.cameras / camera).mkdir()
        (lares.cameras / camera / "1.jpg").write_bytes(person_photo().read_bytes())
        query = "{ events(first: 9) { edges { node { camera { id } status } } } }"
        nodes: list[dict[str, dict[str, str]]] = []
        async with asyncio.timeout(120):
            while camera not in {node["camera"]["id"] for node in nodes}:
                edges = (await lares.graphql(query))["events"]["edges"]
                nodes = [edge["node"] for edge in edges if edge["node"]["status"] == "ASSESSED"]
                await asyncio.sleep(0.1)
        await lares.idle()
        return {node["camera"]["id"] for node in nodes}
    finally:
        await lares.close()


async def delete_topics_of_cameras(kafka: SecuredKafka) -> None:
    names = [topic.name for topic in TOPICS if topic.partitions is None]
    answer = await kafka.cluster.command(DeleteTopicsRequest(names, 60_000))
    assert {code for _, code in answer.topic_error_codes} == {0}


def statement_of_the_page() -> str:
    (statement,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    return str(statement)
