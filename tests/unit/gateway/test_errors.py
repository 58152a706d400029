"""What a client learns about errors, and what it does not."""

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.schema import make_schema
from lares.store.v1 import event_pb2
from mesh.problems import Denied, Exhausted, Internal, Unavailable
from tests.unit.gateway.conftest import Gateway

DEEP = """{ events { edges { node { detections { edges { node { media { detections { edges { node {
  media { camera { id } } } } } } } } } } } } }"""
HUGE = """{ events(first: 200) { edges { node { media { detections(first: 500) { edges { node {
  id label } } } } } } } }"""
# Deep by fragments, which the parser's own limit does not count.
CHAIN = '{ media(id: "x") { ...F0 } } fragment F38 on Media { id } ' + " ".join(
    f"fragment F{i} on Media {{ detections {{ edges {{ node {{ media {{ ...F{i + 1} }} }} }} }} }}"
    for i in range(38)
)


async def test_a_bug_is_masked_and_can_be_found_by_its_request_id(gateway: Gateway) -> None:
    gateway.store.failing["ListEvents"] = RuntimeError("SELECT secret FROM /var/lib/tables at 10.0.0.1")
    with capture_logs() as logs:
        response = await gateway.client.post(
            "/graphql",
            json={"query": "{ events { edges { cursor } } }"},
            headers={"x-request-id": "trace-me-1"},
        )
    assert [log["event"] for log in logs] == ["gRPC call failed", "request failed"]
    assert response.headers["x-request-id"] == "trace-me-1"
    assert response.json() == {
        "data": None,
        "errors": [
            {
                "message": "internal error",
                "locations": [{"line": 1, "column": 3}],
                "path": ["events"],
                "extensions": {"code": "INTERNAL", "reason": "INTERNAL", "requestId": "trace-me-1"},
            }
        ],
    }


async def test_a_bug_of_the_gateway_is_masked_too(gateway: Gateway) -> None:
    gateway.store.add_event(1).status = event_pb2.EVENT_STATUS_UNSPECIFIED
    with capture_logs() as logs:
        error = await gateway.error("{ events { edges { node { status } } } }")
    assert [(log["event"], log["log_level"]) for log in logs] == [("request failed", "error")]
    assert error["message"] == "internal error"
    assert error["path"] == ["events", "edges", 0, "node", "status"]
    assert error["extensions"]["code"] == "INTERNAL"


@pytest.mark.parametrize(
    ("problem", "extensions"),
    [
        (Denied("not yours", "NOT_YOURS"), {"code": "PERMISSION_DENIED", "reason": "NOT_YOURS"}),
        (Unavailable("not now", "DATABASE_AWAY"), {"code": "UNAVAILABLE", "reason": "DATABASE_AWAY"}),
        (
            Exhausted("too many", "FULL", limit="3"),
            {"code": "RESOURCE_EXHAUSTED", "reason": "FULL", "metadata": {"limit": "3"}},
        ),
    ],
)
async def test_problems_of_siblings_are_passed_on(gateway: Gateway, problem: Any, extensions: Any) -> None:
    gateway.store.failing["ListEvents"] = problem
    error = await gateway.error("{ events { edges { cursor } } }")
    assert (error["message"], error["extensions"]) == (problem.message, extensions)


async def test_a_conflict_in_the_store_is_passed_on(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    error = await gateway.error("""mutation { createCamera(input: {id: "front-door"}) { camera { id } } }""")
    assert error["extensions"] == {
        "code": "FAILED_PRECONDITION",
        "reason": "CAMERA_EXISTS",
        "metadata": {"camera_id": "front-door"},
    }


async def test_a_request_that_breaks_a_rule_of_the_contract_is_invalid(gateway: Gateway) -> None:
    error = await gateway.error("""mutation { createCamera(input: {id: "No Slug"}) { camera { id } } }""")
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == ("INVALID_ARGUMENT", "BAD_REQUEST")


async def test_one_field_that_fails_leaves_the_others(gateway: Gateway) -> None:
    gateway.store.add_event(1)
    gateway.store.failing["GetEvent"] = Unavailable("not now", "AWAY")
    response = await gateway.post(
        '{ event(id: "3d2e1c1e-0000-4000-8000-000000000000") { id } cameras { id } }'
    )
    assert response["data"] == {"event": None, "cameras": [{"id": "front-door"}]}
    assert response["errors"][0]["path"] == ["event"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("{ events { edges ", "Syntax Error: Expected Name, found <EOF>."),
        ("{ evnts { edges { cursor } } }", "Cannot query field 'evnts' on type 'Query'."),
        ("{ events(frist: 1) { edges { cursor } } }", "Unknown argument 'frist' on field 'Query.events'."),
        ('{ events(first: "x") { edges { cursor } } }', 'Int cannot represent non-integer value: "x"'),
        ("query($a: Int!) { events(first: $a) { edges { cursor } } }", "Variable '$a'"),
        (
            '{ events(filter: {startedAfter: "noon"}) { edges { cursor } } }',
            "Expected value of type 'DateTime'",
        ),
        ("{ events(filter: {startedAfter: 5}) { edges { cursor } } }", "Expected value of type 'DateTime'"),
        (
            '{ events(filter: {startedAfter: "0001-01-01T00:00:00+14:00"}) { edges { cursor } } }',
            "Expected value of type 'DateTime'",
        ),
        ("{ events(filter: {severities: [HIHG]}) { edges { cursor } } }", "Value 'HIHG' does not exist"),
    ],
)
async def test_an_invalid_query_is_explained_without_suggestions(
    gateway: Gateway, query: str, says: str
) -> None:
    error = await gateway.error(query)
    assert error["message"].startswith(says)
    assert "Did you mean" not in error["message"]
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == ("INVALID_ARGUMENT", "BAD_GRAPHQL")
    assert error["locations"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("{ events(first: 201) { edges { cursor } } }", "BAD_PAGE_SIZE"),
        ("{ events(first: 0) { edges { cursor } } }", "BAD_PAGE_SIZE"),
        ("{ events(first: -1) { edges { cursor } } }", "BAD_PAGE_SIZE"),
        ("{ mediaList(first: 201) { edges { cursor } } }", "BAD_PAGE_SIZE"),
        (DEEP, "TOO_DEEP"),
        (HUGE, "TOO_COSTLY"),
        (CHAIN, "TOO_DEEP"),
        ("{ " + " ".join(f"a{i}: cameras {{ id }}" for i in range(300)) + " }", "BAD_GRAPHQL"),
        ("{ cameras " + "{ id " * 300 + "} " * 300 + "}", "BAD_GRAPHQL"),
        ("#" * 33_000 + "\n{ cameras { id } }", "QUERY_TOO_LONG"),
        ("query a { cameras { id } } query b { cameras { id } }", "NO_OPERATION"),
        ("subscription { eventChanged { cursor } }", "NEEDS_WEBSOCKET"),
    ],
)
async def test_limits(gateway: Gateway, query: str, reason: str) -> None:
    error = await gateway.error(query)
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == ("INVALID_ARGUMENT", reason)


async def test_the_operation_is_chosen_by_name(gateway: Gateway) -> None:
    body = {"query": "query a { cameras { id } } query b { __typename }", "operationName": "b"}
    assert (await gateway.client.post("/graphql", json=body)).json() == {"data": {"__typename": "Query"}}


async def test_a_slow_operation_times_out(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.graphql.engine.TIMEOUT_SECONDS", 0.0)
    error = await gateway.error("{ cameras { id } }")
    assert (error["extensions"]["code"], error["extensions"]["reason"]) == ("UNAVAILABLE", "DEADLINE")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "BAD_JSON"),
        (b"{", "BAD_JSON"),
        (b"[" * 100_000, "BAD_JSON"),
        (b"\xff\xfe", "BAD_JSON"),
        (b'{"query": "{ cameras { id } }", "variables": {"a": NaN}}', "BAD_JSON"),
        (b'{"query": "{ cameras { id } }", "variables": {"a": "\\ud800"}}', "BAD_JSON"),
        (b"[]", "BAD_REQUEST"),
        (b'[{"query": "{ cameras { id } }"}]', "BAD_REQUEST"),
        (b"{}", "BAD_REQUEST"),
        (b'{"query": 5}', "BAD_REQUEST"),
        (b'{"query": " "}', "BAD_REQUEST"),
        (b'{"query": "{ cameras { id } }", "variables": []}', "BAD_REQUEST"),
        (b'{"query": "{ cameras { id } }", "operationName": 5}', "BAD_REQUEST"),
    ],
)
async def test_a_body_that_is_not_a_request_is_refused(gateway: Gateway, body: bytes, reason: str) -> None:
    response = await gateway.client.post(
        "/graphql", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["reason"] == reason


async def test_a_complete_surrogate_pair_is_accepted(gateway: Gateway) -> None:
    body = b'{"query": "query($a: ID!) { camera(id: $a) { id } }", "variables": {"a": "\\ud83d\\ude00"}}'
    response = await gateway.client.post(
        "/graphql", content=body, headers={"content-type": "application/json"}
    )
    assert response.json() == {"data": {"camera": None}}


async def test_the_size_of_a_body_is_limited(gateway: Gateway) -> None:
    body = json.dumps({"query": "{ cameras { id } }", "variables": {"a": "x" * 300_000}}).encode()
    response = await gateway.client.post(
        "/graphql", content=body, headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()["errors"][0]["extensions"]["reason"]) == (
        413,
        "BODY_TOO_LARGE",
    )


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_content_types_that_a_form_can_send_are_refused(gateway: Gateway, kind: str) -> None:
    body = json.dumps({"query": "{ cameras { id } }"}).encode()
    response = await gateway.client.post("/graphql", content=body, headers={"content-type": kind})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["reason"]) == (
        415,
        "BAD_CONTENT_TYPE",
    )


async def test_graphql_accepts_post_only(gateway: Gateway) -> None:
    response = await gateway.client.get("/graphql", params={"query": "{ cameras { id } }"})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_a_client_can_request_graphql_response_json(gateway: Gateway) -> None:
    headers = {"accept": "application/graphql-response+json"}
    for query, status in (("{ nothing }", 400), ("{ __typename }", 200)):
        response = await gateway.client.post("/graphql", json={"query": query}, headers=headers)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/graphql-response+json"


async def test_the_message_of_an_internal_problem_is_hidden(gateway: Gateway) -> None:
    gateway.store.failing["ListCameras"] = Internal("table cameras is broken", "OOPS")
    error = await gateway.error("{ cameras { id } }")
    assert error["message"] == "internal error"
    assert "table" not in json.dumps(error)


async def test_introspection_stays_within_the_limits(gateway: Gateway) -> None:
    from graphql import build_client_schema, get_introspection_query, print_schema

    response = await gateway.ask(get_introspection_query())
    introspected = build_client_schema(response)
    assert "type Event {" in print_schema(introspected)
    assert make_schema()._schema.type_map.keys() == introspected.type_map.keys()
