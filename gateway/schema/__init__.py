"""The GraphQL schema, one file per resource. docs/schema.graphql is printed from it."""

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from strawberry.schema.config import StrawberryConfig

from gateway.schema.mutation import Mutation
from gateway.schema.query import Query
from gateway.schema.reading import timestamp, written
from gateway.schema.subscription import Subscription

DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="ISO 8601; always in UTC where it is answered.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time",
    serialize=written,
    parse_value=timestamp,
)


def make_schema() -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(disable_field_suggestions=True, scalar_map={Timestamp: DATE_TIME}),
    )
