"""Runs operations: Strawberry declares the schema, graphql-core runs it, answers leave in one form."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, cast
from weakref import WeakValueDictionary

import strawberry
from graphql import ExecutionResult, GraphQLError, create_source_event_stream
from strawberry.execution import optimized_is_awaitable

from gateway.context import Context
from gateway.documents import Document, Documents, is_subscription
from gateway.executor import PlanningExecutor
from gateway.faults import Refused, failure, format_errors
from gateway.operation import Operation
from gateway.renderings import Rendering
from gateway.schema.subscription import EventChange
from mesh.permissions import READ
from mesh.problems import Invalid
from mesh.security import current_caller

SECONDS = 15.0

encode = json.JSONEncoder(separators=(",", ":")).encode


class Engine:
    """`context` makes what the resolvers of one execution may reach."""

    def __init__(self, schema: strawberry.Schema, context: Callable[[], Context]) -> None:
        # Strawberry keeps graphql-core's schema to itself; its own way to run it costs ten times the work.
        self._schema = schema._schema
        self._documents = Documents(self._schema)
        self._context = context
        self._renderings: WeakValueDictionary[tuple[object, ...], Rendering] = WeakValueDictionary()

    def is_subscription(self, operation: Operation) -> bool:
        """Raises Refused for a text that is none, Invalid beyond the limits."""
        document = self._documents.read(operation.text)
        return is_subscription(document.operation(operation.name, operation.variables))

    async def answer(self, operation: Operation) -> dict[str, Any]:
        """Of a query or mutation: `{data, errors?}`, or `{errors}` where it could not run. Never raises."""
        try:
            document = self._documents.read(operation.text)
            if is_subscription(document.operation(operation.name, operation.variables)):
                raise Invalid("subscriptions come over WebSocket", "NEEDS_WEBSOCKET")
            result = self._executor(document, operation, None).execute_operation()
            return await _awaited(result) if optimized_is_awaitable(result) else _answer(result)
        except Exception as error:
            return {"errors": failure(error)}

    async def subscribe(self, operation: Operation) -> AsyncGenerator[str, None]:
        """The answers of a subscription, as JSON. Raises what ends it: Problems, Refused. The feed is this
        process's own, so it is here that the caller's permission is looked at."""
        current_caller().require(READ)
        document = self._documents.read(operation.text)
        document.operation(operation.name, operation.variables)
        stream = create_source_event_stream(self._executor(document, operation, None))
        if optimized_is_awaitable(stream):
            stream = await cast("Awaitable[Any]", stream)
        if isinstance(stream, ExecutionResult):
            raise cast("list[GraphQLError]", stream.errors)[0]
        rendering = self._rendering(document, operation)
        async with aclosing(cast("AsyncGenerator[EventChange, None]", stream)) as changes:
            async for change in changes:
                answer = rendering.of(change)
                yield answer if isinstance(answer, str) else await answer

    def _rendering(self, document: Document, operation: Operation) -> Rendering:
        """Shared by all who ask the same and may see the same."""
        key = (current_caller(), *operation.key)
        rendering = self._renderings.get(key)
        if rendering is None:
            render = partial(self._render, document, operation)
            rendering = self._renderings[key] = Rendering(render)
        return rendering

    def _render(
        self, document: Document, operation: Operation, change: EventChange
    ) -> str | Coroutine[Any, Any, str]:
        try:
            result = self._executor(document, operation, change).execute_operation()
        except Exception as error:
            return encode({"errors": failure(error)})
        return _written(result) if optimized_is_awaitable(result) else encode(_answer(result))

    def _executor(self, document: Document, operation: Operation, root: object) -> PlanningExecutor:
        executor = PlanningExecutor.build(
            self._schema,
            document.tree,
            root_value=root,
            context_value=self._context(),
            raw_variable_values=operation.variables,
            operation_name=operation.name,
            is_awaitable=cast("Any", optimized_is_awaitable),
            hide_suggestions=True,
        )
        if isinstance(executor, list):
            raise Refused(executor)
        planning = cast("PlanningExecutor", executor)
        if not planning.operation.variable_definitions:
            planning.plans = document.plans
        return planning


def _answer(result: Any) -> dict[str, Any]:
    if result.errors:
        return {"data": result.data, "errors": format_errors(result.errors)}
    return {"data": result.data}


async def _awaited(result: Any) -> dict[str, Any]:
    """Raises TimeoutError."""
    async with asyncio.timeout(SECONDS):
        return _answer(await result)


async def _written(result: Any) -> str:
    try:
        return encode(await _awaited(result))
    except Exception as error:
        return encode({"errors": failure(error)})
