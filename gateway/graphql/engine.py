"""Runs GraphQL requests. Strawberry declares the schema and graphql-core executes it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, cast
from weakref import WeakValueDictionary

import strawberry
from graphql import ExecutionResult, GraphQLError, create_source_event_stream

from gateway.context import Context
from gateway.errors import InvalidGraphQL, format_errors, format_exception
from gateway.graphql.documents import DocumentCache, ValidDocument, is_subscription
from gateway.graphql.executor import PlanningExecutor
from gateway.graphql.json_text import encode_text
from gateway.graphql.request import GraphQLRequest
from gateway.graphql.shared_responses import SharedResponses
from gateway.graphql.strawberry_internals import core_schema, is_awaitable
from gateway.schema.subscription import EventChange
from mesh.permissions import READ
from mesh.problems import Invalid
from mesh.security import current_caller

TIMEOUT_SECONDS = 15.0


class Engine:
    """`make_context` returns what the resolvers of one execution may use."""

    def __init__(self, schema: strawberry.Schema, make_context: Callable[[], Context]) -> None:
        self._schema = core_schema(schema)
        self._documents = DocumentCache(self._schema)
        self._make_context = make_context
        self._shared: WeakValueDictionary[tuple[object, ...], SharedResponses] = WeakValueDictionary()

    def is_subscription(self, request: GraphQLRequest) -> bool:
        """Raises InvalidGraphQL, and Invalid if the request exceeds a limit."""
        document = self._documents.get(request.query)
        return is_subscription(document.operation(request.operation_name, request.variables))

    async def execute(self, request: GraphQLRequest) -> dict[str, Any]:
        """Returns the response to a query or mutation: `{data, errors?}`, or `{errors}` if it could not run.
        Never raises."""
        try:
            document = self._documents.get(request.query)
            if is_subscription(document.operation(request.operation_name, request.variables)):
                raise Invalid("subscriptions need a WebSocket", "NEEDS_WEBSOCKET")
            result = self._executor(document, request, None).execute_operation()
            return await _await_response(result) if is_awaitable(result) else _response(result)
        except Exception as error:
            return {"errors": format_exception(error)}

    async def subscribe(self, request: GraphQLRequest) -> AsyncGenerator[str, None]:
        """Yields the responses of a subscription, as JSON. Raises InvalidGraphQL, and the Problem that ends
        the subscription.

        Changes come from this process's own feed and not from a sibling that checks permissions, so this
        checks that the caller may read."""
        current_caller().require(READ)
        document = self._documents.get(request.query)
        document.operation(request.operation_name, request.variables)
        stream = create_source_event_stream(self._executor(document, request, None))
        if is_awaitable(stream):
            stream = await cast("Awaitable[Any]", stream)
        if isinstance(stream, ExecutionResult):
            raise cast("list[GraphQLError]", stream.errors)[0]
        responses = self._shared_responses(document, request)
        async with aclosing(cast("AsyncGenerator[EventChange, None]", stream)) as changes:
            async for change in changes:
                response = responses.get(change)
                yield response if isinstance(response, str) else await response

    def _shared_responses(self, document: ValidDocument, request: GraphQLRequest) -> SharedResponses:
        """Shared by all callers that are equal, and so may see the same, and that make the same request."""
        key = (current_caller(), *request.key)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = SharedResponses(partial(self._respond, document, request))
        return shared

    def _respond(
        self, document: ValidDocument, request: GraphQLRequest, change: EventChange
    ) -> str | Coroutine[Any, Any, str]:
        try:
            result = self._executor(document, request, change).execute_operation()
        except Exception as error:
            return encode_text({"errors": format_exception(error)})
        return _await_json(result) if is_awaitable(result) else encode_text(_response(result))

    def _executor(self, document: ValidDocument, request: GraphQLRequest, root: object) -> PlanningExecutor:
        known = document.executors.get(request.operation_name)
        if known:
            return known.again(root, self._make_context())
        executor = PlanningExecutor.build(
            self._schema,
            document.tree,
            root_value=root,
            context_value=self._make_context(),
            raw_variable_values=request.variables,
            operation_name=request.operation_name,
            is_awaitable=cast("Any", is_awaitable),
            hide_suggestions=True,
        )
        if isinstance(executor, list):
            raise InvalidGraphQL(executor)
        planning = cast("PlanningExecutor", executor)
        planning.collected = document.collected(planning.operation, planning.variable_values.coerced)
        if not planning.operation.variable_definitions:
            document.executors[request.operation_name] = planning.again(None, None)
        return planning


def _response(result: Any) -> dict[str, Any]:
    if result.errors:
        return {"data": result.data, "errors": format_errors(result.errors)}
    return {"data": result.data}


async def _await_response(result: Any) -> dict[str, Any]:
    """Raises TimeoutError."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return _response(await result)


async def _await_json(result: Any) -> str:
    try:
        return encode_text(await _await_response(result))
    except Exception as error:
        return encode_text({"errors": format_exception(error)})
