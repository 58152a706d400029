"""GraphQL over HTTP: one POST carries one JSON object and gets one response."""

import asyncio
from http import HTTPStatus

from opentelemetry import trace
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import problem_response
from gateway.graphql.engine import Engine
from gateway.graphql.json_text import encode, read_json
from gateway.graphql.request import GraphQLRequest
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.telemetry.redaction import redacted
from mesh.telemetry.spans import is_recording

MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0
MAX_NAME_CHARACTERS = 64
JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"


class GraphQLEndpoint:
    """An ASGI application, and not a function from Starlette's Request to its Response, because Starlette's
    wrapper around such a function costs more than a short query."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Headers(scope=scope), receive)
        await response(scope, receive, send)

    async def _respond(self, headers: Headers, receive: Receive) -> Response:
        """Responds to every well-formed request with 200, with errors in the body. As the GraphQL over HTTP
        specification requires, a client that accepts application/graphql-response+json gets 400 if the
        operation could not run."""
        # Browsers do not send this type to another site without asking it first.
        if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            wrong_type = Invalid(f"content-type must be {JSON}", "BAD_CONTENT_TYPE")
            return problem_response(wrong_type, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(receive)
        except Exhausted as problem:
            return problem_response(problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except TimeoutError:
            late = Unavailable("the request took too long to arrive", "DEADLINE")
            return problem_response(late, HTTPStatus.REQUEST_TIMEOUT)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        request = GraphQLRequest.from_payload(read_json(body))
        if is_recording():
            name = redacted(request.operation_name or "")[:MAX_NAME_CHARACTERS]
            trace.get_current_span().set_attribute("graphql.operation.name", name)
        response = await self._engine.execute(request)
        strict = GRAPHQL_JSON in headers.get("accept", "")
        status = HTTPStatus.BAD_REQUEST if strict and "data" not in response else HTTPStatus.OK
        return Response(encode(response), status, media_type=GRAPHQL_JSON if strict else JSON)


async def _read_body(receive: Receive) -> bytes:
    """Raises Exhausted BODY_TOO_LARGE, ClientDisconnect."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Exhausted(f"a request may have at most {MAX_BODY_BYTES} bytes", "BODY_TOO_LARGE")
        more = message.get("more_body", False)
    return bytes(body)
