"""The one place where a failure becomes something a client sees."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from graphql import GraphQLError
from grpc import StatusCode
from starlette.responses import JSONResponse

from mesh.problems import Internal, Problem, Unavailable

log = structlog.get_logger(__name__)

STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Refused(Exception):
    """graphql-core's own complaints about a text or its variables, about the client's own words."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__("refused")
        self.errors = errors


def formatted(problem: Problem) -> dict[str, Any]:
    """A Problem as a GraphQL error: `extensions.code` is the gRPC code's name, `reason` the stable reason."""
    extensions: dict[str, Any] = {"code": problem.code.name, "reason": problem.reason}
    if isinstance(problem, Internal):
        return {"message": "internal error", "extensions": extensions | {"requestId": request_id()}}
    if problem.metadata:
        extensions["metadata"] = problem.metadata
    return {"message": problem.message, "extensions": extensions}


def response(problem: Problem, status: HTTPStatus | None = None) -> JSONResponse:
    """The same for HTTP, whatever was asked for."""
    status = status or STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {"www-authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return JSONResponse({"errors": [formatted(problem)]}, status, headers)


def format_errors(errors: Sequence[GraphQLError]) -> list[dict[str, Any]]:
    """The `errors` of an answer that has some data: what resolvers raised."""
    answers = []
    for error in errors:
        form = formatted(masked(error.original_error or error))
        answers.append({"message": form["message"], **_place(error), "extensions": form["extensions"]})
    return answers


def failure(error: Exception) -> list[dict[str, Any]]:
    """The `errors` of an answer that has none."""
    if isinstance(error, Refused):
        extensions = {"code": StatusCode.INVALID_ARGUMENT.name, "reason": "BAD_GRAPHQL"}
        return [{"message": each.message, **_place(each), "extensions": extensions} for each in error.errors]
    if isinstance(error, GraphQLError):
        return format_errors([error])
    if isinstance(error, TimeoutError):
        error = Unavailable("this took too long", "DEADLINE")
    return [formatted(masked(error))]


def masked(error: Exception) -> Problem:
    """What a client may know: a Problem as it is, of anything else only that it happened."""
    if isinstance(error, Problem):
        return error
    log.error("request failed", exc_info=error)
    return Internal("internal error", "INTERNAL")


def request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _place(error: GraphQLError) -> dict[str, Any]:
    place: dict[str, Any] = {}
    if error.locations:
        place["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path:
        place["path"] = error.path
    return place
