"""Chooses the detector by LARES_DETECTOR_URL."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from detect_svc.detectors.detector import Detector
from detect_svc.detectors.detector_url import FORMS, bad_setting, parse_triton_url
from mesh.config import Config


def open_detector(config: Config) -> AbstractAsyncContextManager[Detector]:
    """The detector that LARES_DETECTOR_URL names; docs/detector.md describes the URLs.

    Raises Invalid BAD_SETTING for a URL that is not understood. Entering the block raises Invalid BAD_SETTING
    or MODEL_DOES_NOT_FIT for a setting or a model that cannot work, and DetectorNotReady while no server is
    ready.
    """
    # Each adapter is imported only when it is chosen: its runtime may not be installed, and takes memory.
    scheme, _, rest = config.detector_url.partition(":")
    path, _, query = rest.partition("?")
    if (scheme, path) == ("litert", "efficientdet-lite0"):
        from detect_svc.detectors.litert import open_litert

        return open_litert(config, query)
    if scheme == "onnx" and path:
        from detect_svc.detectors.onnx import open_onnx

        return open_onnx(config, Path(path), query)
    if scheme == "triton":
        from detect_svc.detectors.triton import open_triton

        return open_triton(config, config.secret("detector_url").parsed(parse_triton_url))
    raise bad_setting(f"{scheme}: is not a detector; known forms are {FORMS}")
