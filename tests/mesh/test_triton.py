"""`triton://` with a real Triton: its output, and that no photo is lost when it dies, hangs or changes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import trustme
from tritonclient.grpc.aio import InferenceServerClient

from detect_svc.detectors.boxes import iou_matrix
from detect_svc.detectors.detector import Detector, DetectorNotReady, detector_id
from detect_svc.detectors.detector_url import parse_triton_url
from detect_svc.detectors.factory import open_detector
from detect_svc.detectors.model_metadata import ModelMetadata
from detect_svc.detectors.opener import DetectorOpener
from detect_svc.detectors.server_pool import ServerPool
from detect_svc.detectors.triton_client import InferenceOutput, TritonClient
from lares.detect.v1.detection_pb2 import Frame
from mesh.boxes import edges
from mesh.bus import Bus, open_bus
from mesh.config import Config, load_config
from mesh.problems import Invalid, Problem, Unavailable
from tests.support.detect_harness import DetectHarness, open_detect_harness, varied
from tests.support.photos import animals, people, person_photo, vehicles
from tests.support.records import no_lag, unique
from tests.support.triton import TINY, Triton, add_graph, add_slow, require_triton, running_triton
from tests.support.waiting import until, until_async

# Runtimes and batches of other sizes add floats in another order.
SCORE_TOLERANCE, OVERLAP_TOLERANCE = 1e-3, 0.01


@pytest.fixture(scope="module")
async def bus(kafka_url: str) -> AsyncIterator[Bus]:
    async with open_bus(kafka_url, client_id="triton-test") as bus:
        await bus.create_topics()
        yield bus


def config_for(*tritons: Triton, model: str = "rtdetrv2-tiny", query: str = "", **settings: object) -> Config:
    """With settings under which every photo has a detection that counts."""
    addresses = ",".join(triton.address for triton in tritons)
    url = f"triton://{addresses}/{model}{query and f'?{query}'}"
    return load_config(
        detector_url=url, detect_classes=["person", "cat", "couch", "train"], detect_threshold=0.3, **settings
    )


@pytest.fixture
async def harness(bus: Bus, tmp_path: Path, triton: Triton) -> AsyncIterator[DetectHarness]:
    async with open_detect_harness(bus, tmp_path, config_for(triton)) as harness:
        yield harness


def availability(detector: Detector) -> list[bool]:
    return [server.available for server in detector.servers()]


async def detect_with_retries(detector: Detector, photo: Path) -> Frame:
    """Retries while the detector is not available, as the worker does."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await detector.detect(photo)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_the_findings_are_those_of_onnx_runtime_on_this_machine(triton: Triton) -> None:
    photos = [*people(), *animals(), *vehicles(), person_photo()]
    async with (
        open_detector(config_for(triton)) as remote,
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
    assert len({str(frame.detections) for frame in near}) == len(photos)


def assert_same(one: Frame, other: Frame) -> None:
    """Each finding has a counterpart on the other side; the order does not matter."""
    assert len(one.detections) == len(other.detections) > 0
    unmatched = list(other.detections)
    for finding in one.detections:
        boxes = np.array([edges(rival.bounding_box) for rival in (finding, *unmatched)], np.float32)
        overlaps = iou_matrix(boxes)[0, 1:]
        counterpart = unmatched.pop(int(overlaps.argmax()))
        assert finding.label == counterpart.label
        assert abs(finding.score - counterpart.score) < SCORE_TOLERANCE
        assert overlaps.max() > 1 - OVERLAP_TOLERANCE


async def test_every_photo_is_detected_once_although_the_server_is_killed_and_restarted(
    harness: DetectHarness, triton: Triton
) -> None:
    camera = unique("cam")
    async with open_detector(harness.config) as detector, harness.working(detector) as stream:
        ids = await harness.ingest(camera, varied(4))
        detected = await harness.detections(camera, 4)
        idle, lost = new_client(triton), asyncio.Event()
        watching = asyncio.create_task(idle.watch_connection(lost.set))
        await idle.read_model()
        triton.freeze()  # so that requests are in flight when it is killed
        ids += await harness.ingest(camera, varied(40)[4:])
        await until(lambda: detector.servers()[0].in_flight)
        triton.kill()
        try:
            await until(lambda: availability(detector) == [False])
            await asyncio.wait_for(lost.wait(), 90)  # although this client sent no request
            watching.cancel()
            await idle.close()
            with pytest.raises(Unavailable, match=triton.address):
                await detector.check()
        finally:
            triton.start()
        detected += await harness.detections(camera, 36)
        await no_lag(stream)
        await detector.check()
        assert detector.servers()[0].failed >= 1
    assert [one.media.id for one in detected] == ids
    assert all(one.frames[0].detections and one.detector == detector_id(detector) for one in detected)


async def test_one_of_two_servers_fails_dies_and_returns_with_other_weights(
    harness: DetectHarness, triton: Triton, tmp_path: Path
) -> None:
    repository, camera = tmp_path / "models", unique("cam")
    add_graph(repository)
    async with running_triton(repository, tmp_path) as other:
        config = config_for(triton, other)
        async with open_detector(config) as detector, harness.working(detector) as stream:
            ids = await harness.ingest(camera, varied(48))
            detected = await harness.detections(camera, 8)
            other.kill_stubs()  # every request fails with INTERNAL from now on
            detected += await harness.detections(camera, 8)
            other.kill()
            detected += await harness.detections(camera, 32)
            await no_lag(stream)
            assert all(one.answered for one in detector.servers())
            await until(lambda: availability(detector) == [True, False])
            add_graph(repository, digest="cd" * 32)
            other.start()
            await other.ready()
            before = detector.servers()[1].answered
            await until(lambda: "no longer" in last_errors(detector)[1])
            ids += await harness.ingest(camera, varied(56)[48:])
            detected += await harness.detections(camera, 8)
            assert detector.servers()[1].answered == before
            await detector.check()
        with pytest.raises(Invalid, match="different models") as refused:
            async with open_detector(config):
                pass
    assert refused.value.reason == "MODEL_DOES_NOT_FIT"
    assert [one.media.id for one in detected] == ids
    assert {one.detector for one in detected} == {detector_id(detector)}


def last_errors(detector: Detector) -> list[str]:
    """The last error of each server."""
    return [server.last_error.message for server in detector._pool.servers]  # type: ignore[attr-defined]


async def test_a_server_that_hangs_is_not_available_until_it_answers(triton: Triton) -> None:
    async with open_detector(config_for(triton, detect_seconds=1)) as detector:
        before = await detect_with_retries(detector, person_photo())
        triton.freeze()
        try:
            with pytest.raises(Unavailable, match="no answer in time"):
                await detector.detect(person_photo())
            with pytest.raises(Unavailable):
                await detector.check()
        finally:
            triton.thaw()
        assert await detect_with_retries(detector, person_photo()) == before


async def test_a_cancelled_call_does_not_count_as_a_failure(triton: Triton) -> None:
    async with open_detector(config_for(triton)) as detector:
        await detector.detect(person_photo())
        cancelled = [asyncio.create_task(detector.detect(person_photo())) for _ in range(8)]
        await until(lambda: detector.servers()[0].in_flight)
        for task in cancelled:
            task.cancel()
        outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
        assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert (availability(detector), detector.servers()[0].in_flight) == ([True], 0)
        await detector.detect(person_photo())
        assert detector.servers()[0].failed == 0


async def open_client(triton: Triton, model: str = "rtdetrv2-tiny") -> TritonClient:
    server = new_client(triton, model)
    server.expected, _ = await server.read_model()
    return server


def new_client(triton: Triton, model: str = "rtdetrv2-tiny") -> TritonClient:
    url = config_for(triton, model=model).secret("detector_url").parsed(parse_triton_url)
    return TritonClient(triton.address, url, 90, None)


async def test_in_flight_are_as_many_requests_as_fill_its_batches(triton: Triton) -> None:
    server = await open_client(triton)
    pool: ServerPool[bytes, InferenceOutput] = ServerPool([server], 90)
    most = 0

    async def ask() -> InferenceOutput:
        nonlocal most
        answer = await pool.infer(bytes(160 * 160 * 3))
        most = max(most, pool.servers[0].in_flight)
        return answer

    before = await batches(triton)
    async with pool.running():
        await asyncio.gather(*(ask() for _ in range(200)))
        assert pool.servers[0].max_in_flight == 32  # four batches of eight
    await server.close()
    seen = await batches(triton) - before
    assert seen.total() < 200 / 2
    assert most == 32 - 1  # less the one that is answered


async def batches(triton: Triton) -> Counter[int]:
    """How many batches of each size the server has run."""
    async with InferenceServerClient(triton.address) as client:
        (statistics,) = (await client.get_inference_statistics("rtdetrv2-tiny")).model_stats
    return Counter({one.batch_size: one.compute_infer.count for one in statistics.batch_stats})


async def test_a_full_queue_and_a_timeout_in_the_queue_are_temporary(triton: Triton) -> None:
    server = await open_client(triton, "slow")
    pixels = bytes(32 * 32 * 3)
    outcomes: list[InferenceOutput | BaseException] = []

    def has_error(text: str) -> bool:
        return any(text in str(outcome) for outcome in outcomes if isinstance(outcome, BaseException))

    async def overloaded() -> bool:
        """Whether the queue was full, and too slow. On a slow machine the requests may not arrive
        together."""
        outcomes.extend(
            await asyncio.gather(*(server.infer(pixels) for _ in range(16)), return_exceptions=True)
        )
        return has_error("Exceeds maximum queue size") and has_error("Request timeout expired")

    await until_async(overloaded)
    await server.close()
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {Unavailable}
    assert len(refused) < len(outcomes)


async def test_a_server_that_refuses_some_requests_answers_all_of_them_in_the_end(triton: Triton) -> None:
    async with open_detector(config_for(triton, model="slow", query="in_flight=16")) as detector:
        answers = 0

        async def refused_some() -> bool:
            """On a slow machine the photos may arrive one by one, each at an empty queue."""
            nonlocal answers
            photos = [*people(), *animals()] * 2
            frames = await asyncio.gather(*(detect_with_retries(detector, photo) for photo in photos))
            assert [len(frame.detections) for frame in frames] == [0] * 14
            answers += 14
            return detector.servers()[0].failed > 0

        await until_async(refused_some)
        assert detector.servers()[0].answered == answers


async def test_an_unsupported_model_is_an_error_at_once(triton: Triton) -> None:
    with pytest.raises(
        Invalid, match=r"images: expected uint8 .* found float32 .*; parameter labels"
    ) as wrong:
        async with open_detector(config_for(triton, model="wrong")):
            pass
    assert wrong.value.reason == "MODEL_DOES_NOT_FIT"


@pytest.mark.parametrize(("model", "query"), [("unknown", ""), ("rtdetrv2-tiny", "version=7")])
async def test_a_missing_model_may_be_loading(triton: Triton, model: str, query: str) -> None:
    with pytest.raises(DetectorNotReady, match=rf"{triton.address}: .*{model}.*(loading|version)"):
        async with open_detector(config_for(triton, model=model, query=query)):
            pass


async def test_a_refused_image_is_at_fault(triton: Triton) -> None:
    server = new_client(triton)
    server.expected = ModelMetadata("tiny", "ab" * 32, ("person",), 64)
    with pytest.raises(Problem) as refused:
        await server.infer(bytes(64 * 64 * 3))
    await server.close()
    assert (type(refused.value), refused.value.reason) == (Invalid, "DETECTOR_REFUSED")


async def test_an_output_of_nan_is_the_photos_fault_only_if_a_blank_picture_has_another_output(
    triton: Triton,
) -> None:
    async with open_detector(config_for(triton, model="nan-unless-blank")) as detector:
        with pytest.raises(Invalid) as refused:
            await detector.detect(person_photo())
        assert refused.value.reason == "DETECTOR_NONSENSE"
        assert availability(detector) == [True]
    async with open_detector(config_for(triton, model="nan")) as detector:
        with pytest.raises(Unavailable, match="blank picture"):
            await detector.detect(person_photo())
        assert availability(detector) == [False]


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
                        assert not (await detector.detect(person_photo())).detections
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


async def lacks_the_token(detector: Detector) -> bool:
    try:
        await detector.check()
    except Unavailable as problem:
        return "restricted" in problem.message and "is the token" in problem.message
    return False


async def test_a_token_is_read_again_after_triton_started_with_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_triton()
    add_slow(tmp_path / "models")
    file = tmp_path / "token"
    file.write_text("first")
    restricted = "--grpc-restricted-protocol=inference,metadata,model-config,health:token="
    first = Triton(tmp_path / "models", tmp_path, [f"{restricted}first"])
    second = Triton(tmp_path / "models", tmp_path, [f"{restricted}second"], first.port)
    monkeypatch.setenv("LARES_DETECTOR_TOKEN_FILE", str(file))
    config = load_config(detector_url=f"triton://{first.address}/slow", detect_classes=["person"])
    opener = DetectorOpener(config)
    try:
        first.start()
        async with opener, asyncio.timeout(180):
            detector = await opener.wait()
            assert not (await detector.detect(person_photo())).detections
            first.kill()
            second.start()
            await until_async(lambda: lacks_the_token(detector))
            file.write_text("second")
            assert not (await detect_with_retries(detector, person_photo())).detections
    finally:
        first.kill()
        second.kill()
