"""`lares model check`: what it prints, and its errors."""

from pathlib import Path

import pytest

from deploy.model.check import check, findings_table, timings
from detect_svc.detectors.factory import open_detector
from detect_svc.detectors.frame_message import frame_message
from mesh.config import Config
from mesh.problems import Invalid, Unavailable
from tests.support.photos import CACHE

TINY = Path(__file__).parents[2] / "fixtures" / "rtdetrv2-tiny.onnx"


def config(url: str) -> Config:
    return Config(detector_url=url, cache=CACHE)


async def test_a_sample_through_the_tiny_model(capsys: pytest.CaptureFixture[str]) -> None:
    await check(config(f"onnx:{TINY}?processes=1"), None, 3)
    printed = capsys.readouterr().out
    assert "rtdetrv2-tiny@a7981a8a7c61: 80 classes, 160 x 160 pixels" in printed
    assert "000000193245.jpg, 500 x 375 pixels" in printed
    assert "found of score 0.50 or more, " in printed
    assert "first call " in printed
    assert "2 more, one after another: median " in printed


async def test_a_photo_that_is_missing_or_not_an_image(tmp_path: Path) -> None:
    url = f"onnx:{TINY}?processes=1"
    with pytest.raises(Invalid, match=r"nothing\.jpg: No such file"):
        await check(config(url), tmp_path / "nothing.jpg", 1)
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(Invalid, match="neither a JPEG nor a PNG"):
        await check(config(url), tmp_path / "text.jpg", 1)


async def test_a_missing_model() -> None:
    with pytest.raises(Invalid, match=r"no file /nowhere\.onnx"):
        await check(config("onnx:/nowhere.onnx"), None, 1)


async def test_a_server_that_does_not_answer_is_named_without_its_token() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9") as unavailable:
        await check(config("triton://:t0ken@127.0.0.1:9/rtdetrv2-r18"), None, 1)
    assert "t0ken" not in str(unavailable.value)


async def test_the_url_is_printed_without_its_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = open_detector(config(f"onnx:{TINY}?processes=1"))
    monkeypatch.setattr("deploy.model.check.open_detector", lambda _: tiny)
    await check(config("triton://:t0/ken@host:8001/m"), None, 1)
    assert "\ntriton://:***@host:8001/m\n" in "\n" + capsys.readouterr().out


def test_findings_from_the_threshold_are_printed() -> None:
    frame = frame_message(640, 480, [("person", 0.91, (0.1, 0.2, 0.3, 0.4)), ("dog", 0.3, (0, 0, 1, 1))])
    text = findings_table(frame, 0.5)
    assert "0.91  person          0.100  0.200  0.300  0.400" in text
    assert "dog" not in text
    assert "1 found of score 0.50 or more, 1 below" in text


def test_without_a_finding_from_the_threshold_the_best_ones_are_printed() -> None:
    text = findings_table(frame_message(640, 480, [("dog", 0.3, (0, 0, 1, 1))]), 0.5)
    assert "0.30  dog" in text
    assert "nothing found of score 0.50 or more, 1 below" in text
    assert (
        findings_table(frame_message(640, 480, []), 0.5).strip()
        == "nothing found of score 0.50 or more, 0 below"
    )


def test_timings() -> None:
    assert timings([0.2]) == "first call 200.0 ms"
    later = [number / 1000 for number in range(1, 101)]
    assert timings([0.2, *later]) == (
        "first call 200.0 ms; 100 more, one after another: median 50.5 ms, p95 96.0 ms"
    )
