"""RT-DETRv2 in ONNX Runtime: what a child refuses, and what it does when its accelerator fails."""

import os
from typing import Any

import onnxruntime
import pytest

from detect_svc.detectors import rtdetr_session
from detect_svc.detectors.model_metadata import ModelMetadata
from detect_svc.detectors.onnx import OnnxDetector
from mesh.problems import Unavailable
from mesh.processes.sandbox_child import InputRefused
from tests.support.photos import people
from tests.support.triton import TINY

MAX_PIXELS = 64_000_000


def load(provider: str = "cpu") -> Any:
    return rtdetr_session.load(str(TINY), provider, 1, MAX_PIXELS, "/nowhere")


def test_an_empty_path_returns_the_metadata() -> None:
    name, digest, labels, side = load()("")["metadata"]
    assert (name, len(digest), len(labels), side) == ("rtdetrv2-tiny", 64, 80, 160)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_refused_with_its_name(provider: str) -> None:
    with pytest.raises(
        InputRefused, match=r"(CUDA|Tensorrt)ExecutionProvider, only .*CPUExecutionProvider"
    ) as refused:
        load(provider)
    assert refused.value.reason == "BAD_SETTING"


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_refused_and_not_silently_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    with pytest.raises(InputRefused, match="CUDAExecutionProvider does not start here"):
        load("cuda")


def test_an_unsupported_model_is_refused_with_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtdetr_session, "DTYPES", rtdetr_session.DTYPES | {"tensor(uint8)": "float32"})
    with pytest.raises(InputRefused, match=r"images: expected uint8 .* found float32") as refused:
        load()
    assert refused.value.reason == "MODEL_DOES_NOT_FIT"


def test_after_an_accelerator_failed_its_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(Exception):
        pass

    def end(code: int) -> None:
        raise Ended

    detect, photo = load(), str(people()[0])
    assert "outputs" in detect(photo)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *_: 1 // 0)
    assert "ZeroDivisionError" in detect(photo)["error"]
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(Ended):
        detect(photo)


async def test_a_failed_accelerator_is_a_problem_to_retry() -> None:
    class FakeSandbox:
        async def run(self, photo: object) -> dict[str, str]:
            return {"error": "CUDA failure 700"}

    detector = OnnxDetector(FakeSandbox(), ModelMetadata("m", "ab" * 32, ("person",), 160), 4)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="CUDA failure 700"):
        await detector.detect(b"photo")
