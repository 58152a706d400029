"""On whose behalf the gateway calls its siblings: it calls none without a caller, and never mixes callers
up."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator
from contextvars import Context as Empty
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLType,
    get_named_type,
    graphql,
    is_required_argument,
)
from starlette.types import Receive, Scope, Send

from gateway.context import Context
from gateway.graphql.request import GraphQLRequest
from gateway.loaders import Loaders
from gateway.schema import make_schema
from lares.ingest.v1.media_pb2 import REJECTION_REASON_CORRUPT
from lares.reason.v1 import reason_service_pb2
from lares.reason.v1.evidence_pb2 import RELATION_RESIDENT
from lares.scene.v1.scene_pb2 import ZONE_KIND_ENTRY, Point
from lares.store.v1 import event_service_pb2, house_pb2, media_service_pb2
from lares.store.v1.camera_service_pb2 import POLICY_DECISION_KEPT
from mesh.permissions import EVERY, OF_A_KEY, READ, REPORT_PRESENCE, UPLOAD, Permission
from mesh.security import Caller, NoCaller, caller
from tests.support.callers import calling_as
from tests.support.waiting import until
from tests.unit.gateway.client import connected
from tests.unit.gateway.conftest import SECRET, Gateway, SharedApplication
from tests.unit.gateway.fake_store import NOON, uuid
from tests.unit.gateway.full_evidence import FULL_EVIDENCE, TRACK

ANN = Caller.of_key(uuid("key"), "Ann")
AUTHENTICATE = "gateway.http.authentication.Authenticator.authenticate"
ITSELF = Caller("sibling", permissions=EVERY)
EVENT = uuid("event", 0)
PERSON, VISIT = uuid("person", "known"), uuid("visit", "known")
REJECTION = media_service_pb2.Rejection(id=uuid("rejection"), path="a.jpg", reason=REJECTION_REASON_CORRUPT)
# Required arguments. The walk fails if those of a new field are missing here.
ARGUMENTS: dict[str, str] = {
    "Query.camera": '(id: "front-door")',
    "Query.event": f'(id: "{EVENT}")',
    "Query.suggestZones": '(cameraId: "front-door")',
    "Query.previewPolicy": '(input: {id: "front-door"})',
    "Query.media": f'(id: "{uuid("media", 0)}")',
    "Mutation.createCamera": '(input: {id: "new"})',
    "Mutation.updateCamera": '(input: {id: "front-door", name: "Front"})',
    "Mutation.deleteCamera": '(id: "gone")',
    "Mutation.setMode": '(input: {mode: "home"})',
    "Mutation.setModeSchedule": '(input: {changes: [{weekday: MONDAY, time: "08:00", mode: "away"}]})',
    "Mutation.createPerson": '(input: {name: "Ann", relation: RESIDENT})',
    "Mutation.updatePerson": f'(input: {{id: "{PERSON}", name: "Ann B."}})',
    "Mutation.deletePerson": f'(id: "{uuid("person", "gone")}")',
    "Mutation.reportPresence": f'(input: {{personId: "{PERSON}", present: true}})',
    "Mutation.createExpectedVisit": '(input: {name: "Post"})',
    "Mutation.updateExpectedVisit": f'(input: {{id: "{VISIT}", name: "Mail"}})',
    "Mutation.deleteExpectedVisit": f'(id: "{uuid("visit", "gone")}")',
    "Mutation.setSiteNotes": '(notes: [{text: "We have a dog."}])',
    "Mutation.reassessEvent": f'(input: {{eventId: "{EVENT}"}})',
    "Mutation.identifyTrack": f'(input: {{eventId: "{EVENT}", trackId: "{TRACK}"}})',
    "Mutation.eventFeedback": f'(input: {{eventId: "{EVENT}", kind: RIGHT}})',
}

# What media and events offer over HTTP.
PATHS = [
    "/media/{media}",
    "/media/{media}/thumbnail",
    "/media/{media}/poster",
    "/media/{media}/playable",
    "/media/{media}/frames/0",
    "/media/{media}/frames/0/thumbnail",
    "/events/{event}/clip",
    "/events/{event}/preview",
]


class Walk:
    """Resolves every field as Ann, and before that in a context without a caller."""

    def __init__(self, gateway: Gateway, schema: GraphQLSchema) -> None:
        self._gateway, self._schema = gateway, schema
        self._one_at_a_time = asyncio.Lock()  # to know which field has made a call
        self.visited: set[str] = set()
        self.calling: set[str] = set()
        self.answered: set[str] = set()
        for type_ in object_types(schema):
            for name, field in type_.fields.items():
                field.resolve = self._watched(f"{type_.name}.{name}", field)

    def _watched(self, place: str, field: GraphQLField) -> Any:
        resolve = field.resolve
        assert resolve, place

        async def resolved(source: Any, info: Any, **arguments: Any) -> Any:
            self.visited.add(place)
            pages = [{"after": "AAAA"}] if "after" in field.args else []
            async with self._one_at_a_time:
                for more in ({}, *pages):
                    await self._for_nobody(place, resolve, source, info, arguments | more)
                before = len(self._gateway.store.order)
                response = resolve(source, info, **arguments)
                if inspect.isawaitable(response):
                    response = await response
                if len(self._gateway.store.order) > before:
                    self.calling.add(place)
            return response

        return resolved

    async def _for_nobody(self, place: str, resolve: Any, source: Any, info: Any, arguments: Any) -> None:
        siblings = self._gateway.siblings
        fresh = info._replace(context=Context(siblings, Loaders(siblings), self._gateway.feed))

        async def ask() -> object:
            assert caller.get(None) is None
            response = resolve(source, fresh, **arguments)
            return await response if inspect.isawaitable(response) else response

        before = len(self._gateway.store.order)
        try:
            await asyncio.create_task(ask(), context=Empty())
        except NoCaller:
            pass
        else:
            self.answered.add(place)
        assert len(self._gateway.store.order) == before, f"{place} asked a sibling without a caller"

    async def ask(self, operation: str, type_: GraphQLObjectType) -> None:
        text = f"{operation} {self._selection(type_, ())}"
        siblings = self._gateway.siblings
        context = Context(siblings, Loaders(siblings), self._gateway.feed)
        with calling_as(ANN):
            result = await graphql(self._schema, text, context_value=context)
        assert result.errors is None, result.errors

    def _selection(self, type_: GraphQLType, above: tuple[str, ...]) -> str:
        named = get_named_type(type_)
        if not isinstance(named, GraphQLObjectType):
            return ""
        fields = []
        for name, field in named.fields.items():
            inner = get_named_type(field.type)
            if isinstance(inner, GraphQLObjectType) and inner.name in above:
                continue
            place = f"{named.name}.{name}"
            needed = any(map(is_required_argument, field.args.values()))
            assert needed == (place in ARGUMENTS), f"{place}: add its arguments to ARGUMENTS"
            fields.append(
                f"{name}{ARGUMENTS.get(place, '')} {self._selection(field.type, (*above, named.name))}"
            )
        return "{" + " ".join(fields) + "}"


def object_types(schema: GraphQLSchema) -> Iterator[GraphQLObjectType]:
    for type_ in schema.type_map.values():
        if not isinstance(type_, GraphQLObjectType) or type_.name.startswith("__"):
            continue
        if type_ is not schema.subscription_type:
            yield type_


async def test_no_field_asks_a_sibling_without_a_caller(gateway: Gateway) -> None:
    store = gateway.store
    store.add_event(0, score=40)
    store.add_event(1, camera="gone")
    camera = store.cameras["front-door"]
    camera.thresholds["person"] = 0.5
    camera.zones.add(kind=ZONE_KIND_ENTRY).polygon.add()
    camera.lines.add(start=Point(), end=Point())
    camera.masks.add().polygon.add()
    store.suggestions.suggestions.add().zone.CopyFrom(camera.zones[0])
    camera.size_filters["person"].min_area = 0.5
    store.failures[EVENT] = event_service_pb2.EventFailure(event_id=EVENT)
    store.failures[EVENT].failed_at.FromDatetime(NOON)
    store.rejections.append(REJECTION)
    store.evidence[EVENT] = FULL_EVIDENCE
    found = store.preview.frames.add().detections.add()
    found.recorded = found.proposed = POLICY_DECISION_KEPT
    store.detect.servers.add(address="gpu:8001")
    store.gpus.gpus.add(index=0, uuid="GPU-1").history.add().at.FromDatetime(NOON)
    for id in (PERSON, uuid("person", "gone")):
        store.house.people[id] = house_pb2.Person(id=id, name="Ann", relation=RELATION_RESIDENT)
    for id in (VISIT, uuid("visit", "gone")):
        store.house.visits[id] = house_pb2.ExpectedVisit(id=id, name="Post")
    change = house_pb2.ModeChange(mode="away", source=house_pb2.MODE_SOURCE_SCHEDULE)
    store.house.mode_changes.append(change)
    store.house.next = change
    store.house.schedule.changes.add(weekday=house_pb2.WEEKDAY_MONDAY, time="08:00", mode="home")
    store.house.reports.append(house_pb2.PresenceReport(person_id=PERSON, present=True))
    store.house.notes.notes.add(text="We have a dog.")
    store.reason.state = reason_service_pb2.REASONER_STATE_READY
    schema = make_schema()._schema
    walk = Walk(gateway, schema)
    assert schema.query_type
    assert schema.mutation_type
    await walk.ask("query", schema.query_type)
    await walk.ask("mutation", schema.mutation_type)
    every = {f"{type_.name}.{name}" for type_ in object_types(schema) for name in type_.fields}
    # The gateway of this test has no certificate; they are of its own process.
    unreached = {place for place in every if place.startswith(("EventChange.", "Certificate."))}
    assert every - unreached - walk.visited == set()
    assert walk.calling >= {place for place in every if place.startswith(("Query.", "Mutation."))}
    assert walk.calling & walk.answered == set()
    assert {who.id for who in store.callers} == {ANN.id}


async def test_a_key_that_may_report_presence_may_do_nothing_else(gateway: Gateway) -> None:
    """Every query and every mutation, each by itself."""
    store = gateway.store
    store.permissions[uuid("key")] = frozenset({REPORT_PRESENCE})
    store.house.people[PERSON] = house_pb2.Person(id=PERSON, name="Ann", relation=RELATION_RESIDENT)
    store.add_event(0)
    schema = make_schema()._schema
    for operation, root in (("query", schema.query_type), ("mutation", schema.mutation_type)):
        assert root
        for name, field in root.fields.items():
            place = f"{root.name}.{name}"
            asked = "{ __typename }" if isinstance(get_named_type(field.type), GraphQLObjectType) else ""
            response = await gateway.post(f"{operation} {{ {name}{ARGUMENTS.get(place, '')} {asked} }}")
            if place == "Mutation.reportPresence":
                assert response["data"] == {"reportPresence": {"__typename": "ReportPresencePayload"}}
                continue
            (error,) = response["errors"]
            assert error["extensions"]["code"] == "PERMISSION_DENIED", place
            assert error["extensions"]["reason"] == "NOT_PERMITTED", place
            assert not (response["data"] or {}).get(name), place
    assert set(store.order) == {"VerifyKey", "ReportPresence"}
    for path in (*PATHS, "/metrics"):
        asked = path.format(media=uuid("media", 0), event=EVENT)
        assert (await gateway.client.get(asked)).status_code == 403, path


async def test_a_subscription_needs_a_caller(gateway: Gateway) -> None:
    gateway.store.add_change(gateway.store.add_event(0))
    subscriptions = make_schema()._schema.subscription_type
    assert subscriptions
    for field in subscriptions.fields:
        with pytest.raises(NoCaller):
            await anext(
                gateway.engine.subscribe(GraphQLRequest(f"subscription {{ {field} {{ __typename }} }}"))
            )
    from_the_oldest = GraphQLRequest('subscription { eventChanged(after: "0") { cursor } }')
    with pytest.raises(NoCaller):
        await anext(gateway.engine.subscribe(from_the_oldest))
    assert gateway.feed.watching == 0


@pytest.mark.parametrize("path", ["/graphql", *PATHS, "/metrics"])
async def test_a_route_that_sets_no_caller_asks_no_sibling(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("gateway.http.middleware.caller", ContextVar("another"))
    media = gateway.store.add_media(0)
    path = path.format(media=media.media.id, event=EVENT)
    query = {"query": "{ cameras { id } }"}
    response = await (
        gateway.client.post(path, json=query) if path == "/graphql" else gateway.client.get(path)
    )
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    assert not [who for who in gateway.store.callers if who != ITSELF]
    assert gateway.store.order == ["VerifyKey"]


async def test_no_request_starts_with_the_caller_of_the_previous_one(
    served: Gateway, switch: SharedApplication
) -> None:
    """uvicorn starts a request that waited behind another one on its connection in the task of that one."""
    begun: list[Caller | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(caller.get(None))
        await served.app(scope, receive, send)

    switch.app = app
    url = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET /nothing HTTP/1.1\r\nHost: lares\r\nX-API-Key: {SECRET}\r\n\r\n".encode())
    writer.write(b"GET /health HTTP/1.1\r\nHost: lares\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).count(b"HTTP/1.1 ") == 2
    writer.close()
    assert begun == [None, None]


async def test_shared_metrics_are_requested_as_the_gateway_itself(gateway: Gateway) -> None:
    await gateway.client.get("/metrics")
    assert {"GetStoreStatus", "ListGpus"} <= set(gateway.store.order)
    assert set(gateway.store.callers) == {ITSELF}


def may(*permissions: Permission) -> Caller:
    """Ann, with these permissions."""
    return replace(ANN, permissions=frozenset(permissions))


class AcceptingAuthenticator:
    """An authenticator that accepts everything, as `caller`."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    async def authenticate(self, secret: str, headers: object) -> Caller:
        return self.caller


async def test_the_feed_and_the_metrics_need_the_permission_to_read(
    served: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gateway.http.authentication.Authenticator.authenticate",
        AcceptingAuthenticator(may(UPLOAD)).authenticate,
    )
    async with connected(served.url) as client:
        await client.init()
        await client.subscribe("subscription { eventChanged { cursor } }")
        message = await client.receive()
        assert message["type"] == "error"
        (error,) = message["payload"]
        assert error["extensions"] == {
            "code": "PERMISSION_DENIED",
            "reason": "NOT_PERMITTED",
            "metadata": {"permission": "READ"},
        }
        await client.subscribe("{ cameras { id } }")
        (error,) = (await client.next())["errors"]
        assert error["extensions"]["reason"] == "NOT_PERMITTED"
    response = await served.client.get("/metrics")
    assert response.status_code == 403
    assert served.feed.watching == 0


@pytest.mark.parametrize("now", [may(READ), may(*OF_A_KEY - {READ}), replace(ANN, id="another")])
async def test_a_socket_is_closed_when_its_caller_changes(
    served: Gateway, monkeypatch: pytest.MonkeyPatch, now: Caller
) -> None:
    authenticator = AcceptingAuthenticator(ANN)
    monkeypatch.setattr(AUTHENTICATE, authenticator.authenticate)
    async with connected(served.url) as client:
        await client.init()
        await client.subscribe("subscription { eventChanged { cursor } }")
        await until(lambda: served.feed.watching == 1)
        await served.sockets.recheck()
        await client.send(type="ping")
        assert await client.receive() == {"type": "pong"}
        authenticator.caller = now
        await served.sockets.recheck()
        assert await client.closed() == (4403, "Forbidden")
        await until(lambda: served.feed.watching == 0)


async def test_responses_are_shared_by_equal_callers_only(gateway: Gateway) -> None:
    """Even for one person and one query, what the store returns depends on the permissions."""
    operation = GraphQLRequest('subscription { eventChanged(after: "0") { event { camera { name } } } }')
    gateway.store.add_change(gateway.store.add_event(0))

    async def first(who: Caller) -> AsyncGenerator[str, None]:
        with calling_as(who):
            answers = gateway.engine.subscribe(operation)
            await anext(answers)
        return answers

    kept = [await first(who) for who in (ANN, ANN, may(READ), may(READ), replace(ANN, id="another"))]
    asked = [who for who in gateway.store.callers if who.kind == "key"]
    assert asked == [ANN, may(READ), replace(ANN, id="another")]
    for answers in kept:
        await answers.aclose()
