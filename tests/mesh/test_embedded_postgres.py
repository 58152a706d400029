import asyncpg


async def test_a_database_of_ones_own(postgres_url: str) -> None:
    c = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    assert await c.fetchval("select 1") == 1
    await c.close()


async def test_k(kafka_url: str) -> None:
    assert kafka_url.startswith("kafka://lares:")
