"""The GraphQL schema, one file per resource. docs/schema.graphql is printed from it."""

import strawberry
from strawberry.schema.config import StrawberryConfig

from gateway.schema.camera import Mutation
from gateway.schema.query import Query
from gateway.schema.subscription import Subscription


def make_schema() -> strawberry.Schema:
    return strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        config=StrawberryConfig(disable_field_suggestions=True),
    )
