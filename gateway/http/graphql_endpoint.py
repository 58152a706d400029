"""GraphQL over HTTP: one POST carries one JSON object and gets one response."""

import asyncio
from http import HTTPStatus

from opentelemetry import trace
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.errors import problem_response
from gateway.graphql.engine import Engine, encode
from gateway.graphql.request import GraphQLRequest, read_json
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.telemetry.redaction import redacted

MAX_BODY_BYTES = 256 * 1024
BODY_SECONDS = 10.0
MAX_NAME_CHARACTERS = 64
JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"


class GraphQLEndpoint:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def post(self, request: Request) -> Response:
        """Responds to every well-formed request with 200, with errors in the body. As the GraphQL over HTTP
        specification requires, a client that accepts application/graphql-response+json gets 400 if the
        operation could not run."""
        # Browsers do not send this type to another site without asking it first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            wrong_type = Invalid(f"content-type must be {JSON}", "BAD_CONTENT_TYPE")
            return problem_response(wrong_type, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read_body(request)
        except Exhausted as problem:
            return problem_response(problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except TimeoutError:
            late = Unavailable("the request took too long to arrive", "DEADLINE")
            return problem_response(late, HTTPStatus.REQUEST_TIMEOUT)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        graphql_request = GraphQLRequest.from_payload(read_json(body))
        name = redacted(graphql_request.operation_name or "")[:MAX_NAME_CHARACTERS]
        trace.get_current_span().set_attribute("graphql.operation.name", name)
        response = await self._engine.execute(graphql_request)
        strict = GRAPHQL_JSON in request.headers.get("accept", "")
        status = HTTPStatus.BAD_REQUEST if strict and "data" not in response else HTTPStatus.OK
        return Response(encode(response), status, media_type=GRAPHQL_JSON if strict else JSON)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Exhausted(f"a request may have at most {MAX_BODY_BYTES} bytes", "BODY_TOO_LARGE")
    return bytes(body)
