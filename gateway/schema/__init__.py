"""The GraphQL schema, with a module for each resource. docs/schema.graphql is printed from it."""

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp
from strawberry.schema.config import StrawberryConfig

from gateway.schema.message_fields import format_timestamp, parse_timestamp
from gateway.schema.mutation import Mutation
from gateway.schema.query import Query
from gateway.schema.subscription import Subscription

DATE_TIME = strawberry.scalar(
    name="DateTime",
    description="A time in ISO 8601. Responses are always in UTC; arguments without an offset are read as "
    "UTC.",
    specified_by_url="https://scalars.graphql.org/andimarek/date-time",
    serialize=format_timestamp,
    parse_value=parse_timestamp,
)


def make_schema() -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(disable_field_suggestions=True, scalar_map={Timestamp: DATE_TIME}),
    )
