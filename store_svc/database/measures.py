"""What is measured of the connections to PostgreSQL."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from mesh.telemetry.metrics import Instrument
from store_svc.database.pool import Database

CONNECTIONS = Instrument(
    "lares_database_connections", "gauge", "Connections to PostgreSQL, `in_use` or `idle`.", ("state",)
)
CONNECTION_LIMIT = Instrument(
    "lares_database_connection_limit", "gauge", "Maximum number of connections to PostgreSQL."
)
WAITING = Instrument(
    "lares_database_waiting_calls", "gauge", "Calls that wait for a connection to PostgreSQL."
)
INSTRUMENTS = (CONNECTIONS, CONNECTION_LIMIT, WAITING)


async def sample(database: Database) -> Iterable[Metric]:
    state = database.state()
    return [
        CONNECTIONS.family({("in_use",): state.in_use, ("idle",): state.open - state.in_use}),
        CONNECTION_LIMIT.family({(): state.limit}),
        WAITING.family({(): state.waiting}),
    ]
