"""`triton://` with a real Triton: what it answers, and that nothing is lost when it dies, hangs, changes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from tritonclient.grpc.aio import InferenceServerClient

from detect_svc.detectors.boxes import iou_matrix
from detect_svc.detectors.detector import Detector, DetectorNotReady, FrameFindings, detector_id
from detect_svc.detectors.factory import open_detector
from detect_svc.detectors.model_metadata import ModelMetadata
from detect_svc.detectors.server_pool import ServerPool
from detect_svc.detectors.triton_client import InferenceOutput, TritonClient
from detect_svc.detectors.triton_url import parse_triton_url
from mesh.bus import Bus, open_bus
from mesh.config import Config, load_config
from mesh.problems import Invalid, Problem, Unavailable
from tests.support.house import House, open_house, varied
from tests.support.photos import animals, people, person_photo, vehicles
from tests.support.records import no_lag, unique
from tests.support.triton import TINY, Triton, add_graph, add_slow, require_triton, running_triton
from tests.support.waiting import until, until_async

# Between runtimes, and batches of other sizes: sums come in another order.
SCORE_TOLERANCE, OVERLAP_TOLERANCE = 1e-3, 0.01


@pytest.fixture(scope="module")
async def bus(kafka_url: str) -> AsyncIterator[Bus]:
    async with open_bus(kafka_url, client_id="triton-test") as bus:
        await bus.create_topics()
        yield bus


def asking(*tritons: Triton, model: str = "rtdetrv2-tiny", query: str = "", **settings: object) -> Config:
    """Settings under which every photo has something worth telling."""
    addresses = ",".join(triton.address for triton in tritons)
    url = f"triton://{addresses}/{model}{query and f'?{query}'}"
    return load_config(
        detector_url=url, detect_classes=["person", "cat", "couch", "train"], detect_threshold=0.3, **settings
    )


@pytest.fixture
async def house(bus: Bus, tmp_path: Path, triton: Triton) -> AsyncIterator[House]:
    async with open_house(bus, tmp_path, asking(triton)) as house:
        yield house


def available(detector: Detector) -> list[bool]:
    return [one.available for one in detector.servers()]


async def answered(detector: Detector, photo: Path) -> FrameFindings:
    """As the worker does: again and again while it is away."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await detector.detect(photo)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_the_same_objects_as_onnx_runtime_in_this_process(triton: Triton) -> None:
    photos = [*people(), *animals(), *vehicles(), person_photo()]
    async with (
        open_detector(asking(triton)) as remote,
        open_detector(load_config(detector_url=f"onnx:{TINY}?processes=1")) as local,
    ):
        assert detector_id(remote) == detector_id(local)
        assert (remote.labels, remote.input_size) == (local.labels, local.input_size)
        assert (remote.threshold, remote.fast_threshold) == (local.threshold, local.fast_threshold)
        far = await asyncio.gather(*(remote.detect(photo) for photo in photos))
        near = [await local.detect(photo) for photo in photos]
    for one, other in zip(far, near, strict=True):
        assert (one.width, one.height) == (other.width, other.height)
        assert_same(one, other)
    assert len({str(frame.findings) for frame in near}) == len(photos)


def assert_same(one: FrameFindings, other: FrameFindings) -> None:
    """Every finding has its like in the other answer, whatever their order."""
    assert len(one.findings) == len(other.findings) > 0
    left = list(other.findings)
    for found in one.findings:
        boxes = np.array([found.box, *(rival.box for rival in left)], np.float32)
        like = left.pop(int(iou_matrix(boxes)[0, 1:].argmax()))
        assert found.label == like.label
        assert abs(found.score - like.score) < SCORE_TOLERANCE
        assert iou_matrix(np.array([found.box, like.box], np.float32))[0, 1] > 1 - OVERLAP_TOLERANCE


async def test_killed_and_restarted_under_load_it_answers_every_photo_once(
    house: House, triton: Triton
) -> None:
    camera = unique("cam")
    async with open_detector(house.config) as detector, house.working(detector) as stream:
        ids = await house.ingest(camera, varied(4))
        told = await house.detections(camera, 4)
        idle, lost = client(triton), asyncio.Event()
        watching = asyncio.create_task(idle.watch(lost.set))
        await idle.read()
        triton.freeze()  # so that it cannot have answered all when it is killed
        ids += await house.ingest(camera, varied(40)[4:])
        await until(lambda: detector.servers()[0].in_flight)
        triton.kill()
        try:
            await until(lambda: available(detector) == [False])
            await asyncio.wait_for(lost.wait(), 90)  # without a request of its own
            watching.cancel()
            await idle.close()
            with pytest.raises(Unavailable, match=triton.address):
                await detector.check()
        finally:
            triton.start()
        told += await house.detections(camera, 36)
        await no_lag(stream)
        await detector.check()
        assert detector.servers()[0].failed >= 1
    assert [one.media.id for one in told] == ids
    assert all(one.frames[0].detections and one.detector == detector_id(detector) for one in told)


async def test_one_of_two_breaks_dies_and_comes_back_with_other_weights(
    house: House, triton: Triton, tmp_path: Path
) -> None:
    repository, camera = tmp_path / "models", unique("cam")
    add_graph(repository)
    async with running_triton(repository, tmp_path) as other:
        config = asking(triton, other)
        async with open_detector(config) as detector, house.working(detector) as stream:
            ids = await house.ingest(camera, varied(48))
            told = await house.detections(camera, 8)
            other.kill_stubs()  # INTERNAL from now on, for ever
            told += await house.detections(camera, 8)
            other.kill()
            told += await house.detections(camera, 32)
            await no_lag(stream)
            assert all(one.answered for one in detector.servers())
            await until(lambda: available(detector) == [True, False])
            add_graph(repository, digest="cd" * 32)
            other.start()
            await other.ready()
            before = detector.servers()[1].answered
            await until(lambda: "no longer" in words(detector)[1])
            ids += await house.ingest(camera, varied(56)[48:])
            told += await house.detections(camera, 8)
            assert detector.servers()[1].answered == before
            await detector.check()
        with pytest.raises(Invalid, match="different models") as refused:
            async with open_detector(config):
                pass
    assert refused.value.reason == "MODEL_DOES_NOT_FIT"
    assert [one.media.id for one in told] == ids
    assert {one.detector for one in told} == {detector_id(detector)}


def words(detector: Detector) -> list[str]:
    """Why each of the servers was last left alone."""
    return [place.why.message for place in detector._pool.places]  # type: ignore[attr-defined]


async def test_a_server_that_hangs_is_given_up_and_taken_back(triton: Triton) -> None:
    async with open_detector(asking(triton, detect_seconds=1)) as detector:
        before = await answered(detector, person_photo())
        triton.freeze()
        try:
            with pytest.raises(Unavailable, match="no answer in time"):
                await detector.detect(person_photo())
            with pytest.raises(Unavailable):
                await detector.check()
        finally:
            triton.thaw()
        assert await answered(detector, person_photo()) == before


async def test_a_caller_that_leaves_costs_nothing(triton: Triton) -> None:
    async with open_detector(asking(triton)) as detector:
        await detector.detect(person_photo())
        leaving = [asyncio.create_task(detector.detect(person_photo())) for _ in range(8)]
        await until(lambda: detector.servers()[0].in_flight)
        for task in leaving:
            task.cancel()
        outcomes = await asyncio.gather(*leaving, return_exceptions=True)
        assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert (available(detector), detector.servers()[0].in_flight) == ([True], 0)
        await detector.detect(person_photo())
        assert detector.servers()[0].failed == 0


async def read(triton: Triton, model: str = "rtdetrv2-tiny") -> TritonClient:
    server = client(triton, model)
    server.card, _ = await server.read()
    return server


def client(triton: Triton, model: str = "rtdetrv2-tiny") -> TritonClient:
    return TritonClient(triton.address, parse_triton_url(asking(triton, model=model).detector_url), 90, None)


async def test_as_many_are_under_way_as_fill_its_batches_and_no_more(triton: Triton) -> None:
    server = await read(triton)
    servers: ServerPool[bytes, InferenceOutput] = ServerPool([server], 90)
    most = 0

    async def ask() -> InferenceOutput:
        nonlocal most
        answer = await servers.ask(bytes(160 * 160 * 3))
        most = max(most, servers.places[0].in_flight)
        return answer

    before = await batches(triton)
    async with servers.kept():
        await asyncio.gather(*(ask() for _ in range(200)))
        assert servers.places[0].limit == 32  # four batches of eight
    await server.close()
    seen = await batches(triton) - before
    assert seen.total() < 200 / 2
    assert most == 32 - 1  # less the one that is answered


async def batches(triton: Triton) -> Counter[int]:
    """How many batches of each size the server has run."""
    async with InferenceServerClient(triton.address) as client:
        (statistics,) = (await client.get_inference_statistics("rtdetrv2-tiny")).model_stats
    return Counter({one.batch_size: one.compute_infer.count for one in statistics.batch_stats})


async def test_a_full_queue_and_a_wait_too_long_are_another_time(triton: Triton) -> None:
    server = await read(triton, "slow")
    pixels = bytes(32 * 32 * 3)
    outcomes: list[InferenceOutput | BaseException] = []

    def said(words: str) -> bool:
        return any(words in str(outcome) for outcome in outcomes if isinstance(outcome, BaseException))

    async def crowded() -> bool:
        """Whether the queue was full, and too slow; on a slow machine not all may come at the same time."""
        outcomes.extend(
            await asyncio.gather(*(server.ask(pixels) for _ in range(16)), return_exceptions=True)
        )
        return said("Exceeds maximum queue size") and said("Request timeout expired")

    await until_async(crowded)
    await server.close()
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {Unavailable}
    assert len(refused) < len(outcomes)


async def test_a_server_that_refuses_some_answers_all_in_the_end(triton: Triton) -> None:
    async with open_detector(asking(triton, model="slow", query="in_flight=16")) as detector:
        answers = 0

        async def refused_some() -> bool:
            """On a slow machine the photos may come one by one, each to an empty queue."""
            nonlocal answers
            photos = [*people(), *animals()] * 2
            frames = await asyncio.gather(*(answered(detector, photo) for photo in photos))
            assert [frame.findings for frame in frames] == [[]] * 14
            answers += 14
            return detector.servers()[0].failed > 0

        await until_async(refused_some)
        assert detector.servers()[0].answered == answers


async def test_a_model_that_does_not_fit_is_an_error_at_once(triton: Triton) -> None:
    with pytest.raises(
        Invalid, match=r"images: expected uint8 .* found float32 .*; parameter labels"
    ) as wrong:
        async with open_detector(asking(triton, model="wrong")):
            pass
    assert wrong.value.reason == "MODEL_DOES_NOT_FIT"


@pytest.mark.parametrize(("model", "query"), [("nobody", ""), ("rtdetrv2-tiny", "version=7")])
async def test_a_model_that_is_not_there_may_be_loading(triton: Triton, model: str, query: str) -> None:
    with pytest.raises(DetectorNotReady, match=rf"{triton.address}: .*{model}.*(loading|version)"):
        async with open_detector(asking(triton, model=model, query=query)):
            pass


async def test_an_image_that_it_refuses_is_that_images_fault(triton: Triton) -> None:
    server = client(triton)
    server.card = ModelMetadata("tiny", "ab" * 32, ("person",), 64)
    with pytest.raises(Problem) as refused:
        await server.ask(bytes(64 * 64 * 3))
    await server.close()
    assert (type(refused.value), refused.value.reason) == (Invalid, "DETECTOR_REFUSED")


async def test_numbers_that_are_none_are_the_photos_fault_only_where_a_blank_one_has_some(
    triton: Triton,
) -> None:
    async with open_detector(asking(triton, model="dazzled")) as detector:
        with pytest.raises(Invalid) as refused:
            await detector.detect(person_photo())
        assert refused.value.reason == "DETECTOR_NONSENSE"
        assert available(detector) == [True]
    async with open_detector(asking(triton, model="dazed")) as detector:
        with pytest.raises(Unavailable, match="blank picture"):
            await detector.detect(person_photo())
        assert available(detector) == [False]


async def test_tls_and_a_token(tmp_path: Path) -> None:
    require_triton()
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    add_slow(tmp_path / "models")
    arguments = [
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={tmp_path / 'cert.pem'}",
        f"--grpc-server-key={tmp_path / 'key.pem'}",
        "--grpc-restricted-protocol=inference,metadata,model-config,health:token=s3cret",
    ]
    async with running_triton(tmp_path / "models", tmp_path, arguments, wait=False) as triton:
        config = load_config(
            detector_url=f"triton://:s3cret@{triton.address}/slow?tls=true",
            detector_ca=tmp_path / "ca.pem",
            detect_classes=["person"],
        )
        async with asyncio.timeout(90):
            while True:
                try:
                    async with open_detector(config) as detector:
                        assert (await detector.detect(person_photo())).findings == []
                    break
                except DetectorNotReady:
                    await asyncio.sleep(0.1)
        for token, tls, ca, why in (
            ("", "true", config.detector_ca, "restricted"),
            (":wrong@", "true", config.detector_ca, "restricted"),
            (":s3cret@", "false", config.detector_ca, "Socket closed|connect"),
            (":s3cret@", "true", None, "handshake"),
        ):
            url = f"triton://{token}{triton.address}/slow?tls={tls}"
            with pytest.raises(DetectorNotReady, match=why) as refused:
                async with open_detector(config.model_copy(update={"detector_url": url, "detector_ca": ca})):
                    pass
            assert "s3cret" not in refused.value.message
        missing = config.model_copy(update={"detector_ca": tmp_path / "gone.pem"})
        with pytest.raises(Invalid, match="LARES_DETECTOR_CA"):
            async with open_detector(missing):
                pass
