"""One photo through a whole Lares is one trace, as a real collector receives it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.support.collector import Collector, ReceivedSpan, running_collector
from tests.support.lares import Lares, running_lares
from tests.support.photos import person_photo
from tests.support.waiting import until

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
INGEST = "ingest media"
# The parent and the kind of each span.
PHOTO = {
    "examine file": (INGEST, INTERNAL),
    "store blob": (INGEST, INTERNAL),
    "publish ingest.media.v1": (INGEST, PRODUCER),
    "process ingest.media.v1": ("publish ingest.media.v1", CONSUMER),
    "detect objects": ("process ingest.media.v1", INTERNAL),
    "publish detect.detections.v1": ("process ingest.media.v1", PRODUCER),
    "process detect.detections.v1": ("publish detect.detections.v1", CONSUMER),
    "COMMIT": ("process detect.detections.v1", CLIENT),
    "wait for lease": ("process detect.detections.v1", INTERNAL),
    "assess event": ("wait for lease", INTERNAL),
    "publish reason.assessments.v1": ("assess event", PRODUCER),
    "process reason.assessments.v1": ("publish reason.assessments.v1", CONSUMER),
}
QUERY = """query Latest($labels: [String!]) {
  events(first: 5, filter: {labels: $labels}) { edges { node { id } } } }"""
REASSESS = "mutation($input: ReassessEventInput!) { reassessEvent(input: $input) { requestId } }"
# A known label that no photo here has.
SECRET, VARIABLE = "opensesame", "toothbrush"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as started:
        yield started


@pytest.fixture(scope="module")
async def lares(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> AsyncIterator[Lares]:
    settings = {
        "LARES_EVENT_GAP_SECONDS": "1",
        "LARES_EVENT_SPAN_SECONDS": "3",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-collector-key={SECRET}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    async with running_lares(tmp_path_factory.mktemp("traces") / "home", settings) as started:
        yield started


@pytest.fixture(scope="module")
async def event(lares: Lares) -> str:
    """The id of the one event of this Lares: a person at the front door. It is assessed."""
    folder = lares.cameras / "front-door"
    folder.mkdir()
    (folder / ".1.jpg").write_bytes(person_photo().read_bytes())
    (folder / ".1.jpg").rename(folder / "1.jpg")
    await lares.idle()
    (edge,) = (await lares.graphql("{ events(first: 9) { edges { node { id } } } }"))["events"]["edges"]
    return str(edge["node"]["id"])


@pytest.mark.usefixtures("event")
async def test_a_photo_is_one_trace(collector: Collector) -> None:
    names = set(PHOTO)
    await until(lambda: any(names <= {span.name for span in spans} for spans in collector.traces().values()))
    (spans,) = [spans for spans in collector.traces().values() if any(span.name == INGEST for span in spans)]
    by_id = {span.id: span for span in spans}
    (root,) = [span for span in spans if not span.parent]
    assert (root.name, root.attributes["lares.camera.id"]) == (INGEST, "front-door")
    for name, (parent, kind) in PHOTO.items():
        found = {(by_id[span.parent].name, span.kind) for span in spans if span.name == name}
        assert (parent, kind) in found, name
    media = {span.attributes["lares.media.id"] for span in spans if "lares.media.id" in span.attributes}
    assert media == {root.attributes["lares.media.id"]}
    assert not any(span.failed for span in spans)
    assert root.resource["service.name"] == "lares"


async def test_a_graphql_request_is_one_trace_down_to_the_database(
    lares: Lares, collector: Collector
) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with httpx.AsyncClient(base_url=f"http://{lares.http}", timeout=90) as client:
        headers = {"x-api-key": lares.key, "traceparent": f"00-{trace}-{caller}-01"}
        body = {"query": QUERY, "variables": {"labels": [VARIABLE]}, "operationName": "Latest"}
        answer = await client.post(f"/graphql?token={SECRET}", json=body, headers=headers)
        assert answer.json()["data"] == {"events": {"edges": []}}
        for path in ("/health", "/ready", "/metrics"):
            assert (await client.get(path, headers=headers)).status_code == 200
    wanted = {
        "POST /graphql",
        "lares.store.v1.ListEvents",
        "lares.store.v1.EventService/ListEvents",
        "SELECT",
    }
    await until(lambda: wanted <= {span.name for span in collector.traces().get(trace, ())})
    spans = {span.name: span for span in collector.traces()[trace]}
    http, served, call = (spans[name] for name in sorted(wanted - {"SELECT"}))
    assert (http.name, http.parent, http.kind) == ("POST /graphql", caller, SERVER)
    assert http.attributes["graphql.operation.name"] == "Latest"
    assert http.attributes["http.response.status_code"] == 200
    assert (call.kind, served.kind, served.parent) == (CLIENT, SERVER, call.id)
    selects = [span for span in collector.traces()[trace] if span.name == "SELECT"]
    assert served.id in {span.parent for span in selects}
    sent = b"".join(collector.raw)
    for secret in (lares.key, SECRET, VARIABLE):
        assert secret.encode() not in sent, secret


async def test_a_reassessment_belongs_to_the_trace_of_its_request(
    lares: Lares, collector: Collector, event: str
) -> None:
    await lares.graphql(REASSESS, input={"eventId": event})
    wanted = {"wait for lease", "assess event", "process reason.assessments.v1"}

    def asked() -> list[ReceivedSpan]:
        for spans in collector.traces().values():
            if any(span.name == "lares.store.v1.EventService/ReassessEvent" for span in spans):
                return spans
        return []

    await until(lambda: wanted <= {span.name for span in asked()})
    (first,) = [span for span in asked() if not span.parent]
    assert first.name == "POST /graphql"


@pytest.mark.usefixtures("event")
async def test_polling_does_not_begin_traces(lares: Lares, collector: Collector) -> None:
    """Leases, metrics, health checks and the relay of the feed run all the time."""
    await lares.idle()
    first = {span.name for span in collector.spans if not span.parent}
    assert INGEST in first
    assert first <= {INGEST, "POST /graphql"}
