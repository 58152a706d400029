"""The store's lags, while Kafka answers and while it does not."""

from functools import partial

from lares.store.v1.event_service_pb2 import GetStoreStatusResponse
from mesh.problems import Unavailable
from store_svc.api.events import TopicLags


async def known(records: int) -> int:
    return records


async def not_known() -> int:
    raise Unavailable("Kafka does not answer", "BUS_UNAVAILABLE")


async def test_each_lag_is_that_of_its_topic() -> None:
    lags = TopicLags(*(partial(known, records) for records in (1, 2, 3, 4)))
    assert await lags.read() == GetStoreStatusResponse(
        detections_lag=1, rejections_lag=2, assessments_lag=3, renditions_lag=4
    )


async def test_without_one_of_them_none_is_told_and_the_reason_is() -> None:
    for missing in range(4):
        lags = TopicLags(*(not_known if number == missing else partial(known, 7) for number in range(4)))
        assert await lags.read() == GetStoreStatusResponse(problem="Kafka does not answer")
