"""What GraphQL answers, and with how many calls."""

from tests.unit.gateway.conftest import Gateway

PAGE = """{ events(first: 50) { edges { cursor node { id status camera { id name }
  risk { score severity evidence { factor } }
  media { id url thumbnailUrl camera { name } }
  detections { edges { node { id label score box { xMin yMax } media { id } } } } } }
  pageInfo { hasNextPage endCursor } } }"""


async def test_a_page_of_events_costs_a_call_per_kind(gateway: Gateway) -> None:
    for index in range(60):
        gateway.store.add_event(index, camera=f"cam-{index % 7}", score=index if index % 2 else None, photos=2)
    events = (await gateway.ask(PAGE))["events"]
    assert len(events["edges"]) == 50
    del gateway.store.calls["VerifyKey"]
    assert gateway.store.calls == {
        "ListEvents": 1,
        "BatchGetCameras": 1,
        "BatchListEventMedia": 1,
        "BatchListDetections": 1,
        "BatchGetMedia": 1,
    }
    print(events["edges"][0])
