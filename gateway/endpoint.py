"""GraphQL over HTTP: one POST, one JSON object, one answer."""

import asyncio
from http import HTTPStatus

from opentelemetry import trace
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway import faults
from gateway.engine import Engine, encode
from gateway.operation import Operation, read_json
from mesh.problems import Exhausted, Invalid, Unavailable
from mesh.telemetry.redaction import redacted

LARGEST_BODY = 256 * 1024
BODY_SECONDS = 10.0
LONGEST_NAME = 64
JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"


class GraphQLEndpoint:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def post(self, request: Request) -> Response:
        """200 for what is well-formed, with the errors in the answer; who accepts
        application/graphql-response+json gets 400 where nothing could run, as GraphQL over HTTP wants."""
        # Not a type that a form of another site could send without being asked first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            wrong = Invalid(f"content-type must be {JSON}", "BAD_CONTENT_TYPE")
            return faults.response(wrong, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except Exhausted as problem:
            return faults.response(problem, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        except TimeoutError:
            late = Unavailable("this request takes too long to arrive", "DEADLINE")
            return faults.response(late, HTTPStatus.REQUEST_TIMEOUT)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        operation = Operation.of(read_json(body))
        name = redacted(operation.name or "")[:LONGEST_NAME]
        trace.get_current_span().set_attribute("graphql.operation.name", name)
        answer = await self._engine.answer(operation)
        strict = GRAPHQL_JSON in request.headers.get("accept", "")
        status = HTTPStatus.BAD_REQUEST if strict and "data" not in answer else HTTPStatus.OK
        return Response(encode(answer), status, media_type=GRAPHQL_JSON if strict else JSON)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Exhausted(f"a request may have {LARGEST_BODY} bytes", "BODY_TOO_LARGE")
    return bytes(body)
