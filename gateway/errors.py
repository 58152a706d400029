"""Turns exceptions into what a client sees. Every error of GraphQL and of HTTP takes its form here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from graphql import GraphQLError
from grpc import StatusCode
from starlette.responses import JSONResponse

from mesh.problems import Internal, Problem, Unavailable

log = structlog.get_logger(__name__)

HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class InvalidGraphQL(Exception):
    """The query or its variables are not valid. `errors` are graphql-core's, which quote only what the client
    sent, so that they may be shown as they are."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__("invalid GraphQL")
        self.errors = errors


def format_problem(problem: Problem) -> dict[str, Any]:
    """Returns a Problem as a GraphQL error: `extensions.code` is the name of its gRPC code, `reason` its
    reason code."""
    extensions: dict[str, Any] = {"code": problem.code.name, "reason": problem.reason}
    if isinstance(problem, Internal):
        return {"message": "internal error", "extensions": extensions | {"requestId": request_id()}}
    if problem.metadata:
        extensions["metadata"] = problem.metadata
    return {"message": problem.message, "extensions": extensions}


def problem_response(
    problem: Problem, status: HTTPStatus | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns the HTTP response to a request that failed, in the same form as GraphQL's errors. By default
    the status follows from the problem's code."""
    status = status or HTTP_STATUS.get(problem.code, HTTPStatus.INTERNAL_SERVER_ERROR)
    if status is HTTPStatus.UNAUTHORIZED:
        headers = {"www-authenticate": "Bearer"}
    return JSONResponse({"errors": [format_problem(problem)]}, status, headers)


def format_errors(errors: Sequence[GraphQLError]) -> list[dict[str, Any]]:
    """Returns the `errors` beside the data of an operation that ran: what its resolvers raised."""
    formatted = []
    for error in errors:
        form = format_problem(visible_problem(error.original_error or error))
        formatted.append({"message": form["message"], **_location(error), "extensions": form["extensions"]})
    return formatted


def format_exception(error: Exception) -> list[dict[str, Any]]:
    """Returns the `errors` of an operation that could not run."""
    if isinstance(error, InvalidGraphQL):
        extensions = {"code": StatusCode.INVALID_ARGUMENT.name, "reason": "BAD_GRAPHQL"}
        return [
            {"message": each.message, **_location(each), "extensions": extensions} for each in error.errors
        ]
    if isinstance(error, GraphQLError):
        return format_errors([error])
    if isinstance(error, TimeoutError):
        error = Unavailable("this took too long", "DEADLINE")
    return [format_problem(visible_problem(error))]


def visible_problem(error: Exception) -> Problem:
    """Returns what a client may know of an error: a Problem as it is. Anything else, and an Internal, is
    logged, because the client learns only the request's id."""
    if isinstance(error, Internal):
        log.error("request failed", reason=error.reason, message=error.message)
    if isinstance(error, Problem):
        return error
    log.error("request failed", exc_info=error)
    return Internal("internal error", "INTERNAL")


def request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def _location(error: GraphQLError) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if error.locations:
        location["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path:
        location["path"] = error.path
    return location
