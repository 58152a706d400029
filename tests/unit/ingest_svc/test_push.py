"""Media that cameras push by HTTP, over real sockets."""

import asyncio
import base64
import hashlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import structlog
from trustme import KeyType

from ingest_svc.receiving.push import application, authentication
from ingest_svc.receiving.push.application import PushApplication
from ingest_svc.receiving.push.authentication import PushAuthenticator
from ingest_svc.receiving.push.digest_answer import NONCE_SECONDS, Challenges, DigestAnswer
from ingest_svc.receiving.push.listener import listening_for_pushes
from lares.ingest.v1.media_pb2 import CapturedAtSource
from mesh.blobs.spool import Spool
from mesh.http import uvicorn_internals
from mesh.http_digest import REALM, DigestAlgorithm, user_digest
from mesh.identity import media_id
from mesh.permissions import READ
from mesh.problems import Unauthenticated
from mesh.security import Caller
from mesh.tls.tls import Tls
from tests.support.blobs import content_of
from tests.support.certificates import Issuer, old_tls, opened, renew, shown_by
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.recorded_spans import recording_spans
from tests.support.small_clips import small_clip
from tests.support.waiting import until

ONE, TWO = jpeg("one", pixels=b"\x12" * 9000), jpeg("two", pixels=b"\x12" * 9000)
KEY = "lares_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
CALLERS = {
    KEY: Caller.of_key("k1", "porch's", camera_id="porch"),
    "every": Caller.of_key("k2", "of every camera"),
    "yard": Caller.of_key("k4", "yard's", camera_id="yard"),
    "reads": Caller.of_key("k3", "reads", frozenset({READ})),
}
REST = 'nonce="n", uri="/", response="r", qop=auth, nc=1, cnonce="c"'
BEARER = {"authorization": f"Bearer {KEY}"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
ALARM = b"<EventNotificationAlert><eventType>VMD</eventType></EventNotificationAlert>"


class FakeKeys:
    def __init__(self) -> None:
        self.asked = 0

    async def verify(self, secret: str) -> Caller:
        self.asked += 1
        if secret not in CALLERS:
            raise Unauthenticated("this key is not known", "BAD_API_KEY")
        return CALLERS[secret]

    async def verify_digest(
        self, camera_id: str, algorithm: DigestAlgorithm, hashed: str, response: str
    ) -> Caller:
        self.asked += 1
        for secret, caller in CALLERS.items():
            a1 = user_digest(algorithm, camera_id, secret)
            if caller.camera_id == camera_id and algorithm.hex(a1, hashed) == response:
                return caller
        raise Unauthenticated("no key of this camera fits", "BAD_API_KEY")


@dataclass
class Push:
    harness: IngestHarness
    keys: FakeKeys
    client: httpx.AsyncClient
    address: tuple[str, int]

    def ids(self) -> list[str]:
        return [media.id for media in self.harness.bus.media]


@asynccontextmanager
async def pushing(
    harness: IngestHarness, *, auth: bool = True, tls: Tls | None = None, trusted: Path | None = None
) -> AsyncIterator[Push]:
    """With `tls`, cameras trust the CA in the file `trusted`."""
    keys = FakeKeys()
    config = harness.config().model_copy(update={"push_listen": "127.0.0.1:0"})
    async with harness.running() as ingest:
        app = PushApplication(ingest.uploads, PushAuthenticator(keys if auth else None))
        verify = ssl.create_default_context(cafile=trusted) if trusted else True
        async with (
            listening_for_pushes(app, config, tls) as url,
            httpx.AsyncClient(base_url=url, timeout=90, verify=verify) as client,
        ):
            yield Push(harness, keys, client, ("127.0.0.1", int(url.rpartition(":")[2])))


def reason(response: httpx.Response) -> str:
    return str(response.json()["errors"][0]["extensions"]["reason"])


def id_of(content: bytes, camera: str = "porch") -> str:
    return media_id(camera, hashlib.sha256(content).hexdigest())


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def raw(push: Push, *pieces: bytes, ends: bool = False) -> bytes:
    """The whole answer to what is written to a socket."""
    reader, writer = await asyncio.open_connection(*push.address)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    if ends:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 90)
    writer.close()
    return answer


def request(path: str = "/ingest/porch", method: str = "POST", **headers: str) -> bytes:
    lines = {"host": "lares", "authorization": f"Bearer {KEY}"} | headers
    text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return text.encode() + b"\r\n"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_raw_picture_is_durably_announced_when_the_answer_comes(
    harness: IngestHarness, method: str
) -> None:
    async with pushing(harness) as push:
        response = await push.client.request(
            method, "/ingest/porch/snapshot.jpg", content=ONE, headers=BEARER | {"content-type": "image/jpeg"}
        )
        assert (response.status_code, response.json()) == (200, {"media": [id_of(ONE)]})
        (media,) = harness.bus.media
        assert (media.camera_id, media.captured_at_source) == (
            "porch",
            CapturedAtSource.CAPTURED_AT_SOURCE_MTIME,
        )
        assert await content_of(harness.blobs, media.sha256) == ONE
        again = await push.client.post("/ingest/porch", content=ONE, headers=BEARER)
        assert again.json() == response.json()
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_a_clip_comes_in_chunks_and_its_name_tells_the_time(harness: IngestHarness) -> None:
    clip = small_clip("mp4")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(clip), 5000):
            yield clip[start : start + 5000]

    headers = BEARER | {"content-disposition": 'attachment; filename="20260601_140000.mp4"'}
    async with pushing(harness) as push:
        response = await push.client.put("/ingest/porch", content=chunks(), headers=headers)
        assert response.json() == {"media": [id_of(clip)]}
        (media,) = harness.bus.media
        assert media.captured_at_source == CapturedAtSource.CAPTURED_AT_SOURCE_FILE_NAME
        assert media.clip.video_codec == "h264"


async def test_a_form_with_an_alarm_and_two_pictures(harness: IngestHarness) -> None:
    """As Hikvision sends it."""
    files = [
        ("event", ("alarm.xml", ALARM, "application/xml")),
        ("Picture_1", ("one.jpg", ONE, "image/jpeg")),
        ("Picture_2", ("two.jpg", TWO, "image/pjpeg")),
    ]
    async with pushing(harness) as push:
        response = await push.client.post(
            "/ingest/porch/alarm", files=files, data={"channel": "1"}, headers=BEARER
        )
        assert (response.status_code, response.json()) == (200, {"media": [id_of(ONE), id_of(TWO)]})
        assert push.ids() == [id_of(ONE), id_of(TWO)]


@pytest.mark.parametrize(
    ("declared", "written"), [("--gap", b"--gap"), ("gap", b"--gap"), ('"g ap"', b"--g ap")]
)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_stream_of_parts_is_announced_while_it_goes_on(
    harness: IngestHarness, declared: str, written: bytes, size: int
) -> None:
    """As Dahua and Axis send it, with boundaries declared as they do."""
    heartbeat = b"\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nHeartbeat\r\n"
    picture = b"\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(ONE) + ONE + b"\r\n"
    going_on = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        beginning = (
            b"\r\n" + written + heartbeat + written + picture + written + heartbeat + written + b"\r\n"
        )
        for start in range(0, len(beginning), size):
            yield beginning[start : start + size]
        await going_on.wait()
        yield b"Content-Type: text/plain\r\n\r\nHeartbeat\r\n" + written + b"--\r\n"

    headers = BEARER | {"content-type": f"multipart/x-mixed-replace; boundary={declared}"}
    async with pushing(harness) as push:
        sending = asyncio.create_task(push.client.post("/ingest/porch", content=stream(), headers=headers))
        await until(lambda: push.ids() == [id_of(ONE)])
        assert not sending.done()
        going_on.set()
        assert (await sending).json() == {"media": [id_of(ONE)]}


async def test_one_bad_picture_of_a_form_is_told_beside_the_good_ones(harness: IngestHarness) -> None:
    files = [("a", ("bad.jpg", ONE[:-2], "image/jpeg")), ("b", ("two.jpg", TWO, "image/jpeg"))]
    async with pushing(harness) as push:
        response = await push.client.post("/ingest/porch", files=files, headers=BEARER)
        assert (response.status_code, response.json()["media"]) == (200, [id_of(TWO)])
        (rejected,) = response.json()["rejected"]
        assert (rejected["fileName"], rejected["extensions"]["reason"]) == ("bad.jpg", "TRUNCATED")
        response = await push.client.post("/ingest/porch", files=files[:1], headers=BEARER)
        assert (response.status_code, reason(response)) == (422, "TRUNCATED")


@pytest.mark.parametrize("content_type", ["application/xml; charset=UTF-8", "application/json", "text/plain"])
async def test_an_alarm_without_a_picture_is_taken_note_of(harness: IngestHarness, content_type: str) -> None:
    async with pushing(harness) as push:
        headers = BEARER | {"content-type": content_type}
        response = await push.client.post("/ingest/porch/KeepAlive", content=ALARM, headers=headers)
        assert (response.status_code, response.json()) == (200, {"media": []})


@pytest.mark.parametrize(
    ("content", "headers", "status", "why"),
    [
        (b"hello", {}, 415, "NOT_AN_IMAGE"),
        (b"", {}, 422, "ZERO_BYTE"),
        (ONE[:-2], {}, 422, "TRUNCATED"),
        (jpeg("big", pixels=b"\x12" * 20_000), {}, 413, "TOO_MANY_BYTES"),
        (ONE, {"content-encoding": "gzip"}, 415, "CONTENT_ENCODING"),
        (ONE, {"content-type": "multipart/form-data"}, 400, "BAD_MULTIPART"),
        (ONE, FORM, 400, "BAD_MULTIPART"),
        (b"--x\r\n\r\n", FORM, 400, "BAD_MULTIPART"),
        (b"--x\r\nContent-Type: image/jpeg\r\n\r\n" + ONE, FORM, 400, "BAD_MULTIPART"),
        (b"--x\r\n" + b"a: b\r\n" * 1000, FORM, 400, "BAD_MULTIPART"),
        (b"--x\r\n\r\na\r\n" * 300 + b"--x--\r\n", FORM, 422, "TOO_MANY_PARTS"),
    ],
)
async def test_what_is_refused(
    harness: IngestHarness, content: bytes, headers: dict[str, str], status: int, why: str
) -> None:
    harness.settings |= {"ingest_max_bytes": 10_000, "clip_max_bytes": 15_000}
    async with pushing(harness) as push:
        response = await push.client.post("/ingest/porch", content=content, headers=BEARER | headers)
        assert (response.status_code, reason(response)) == (status, why)
        assert push.ids() == []
    assert list((harness.home / "media" / ".spool").iterdir()) == []


async def test_a_picture_without_a_length_is_cut_off_at_the_limit(harness: IngestHarness) -> None:
    harness.settings |= {"ingest_max_bytes": 10_000}

    async def endless() -> AsyncIterator[bytes]:
        yield ONE[:5000]
        while True:
            yield bytes(5000)
            await asyncio.sleep(0)

    async with pushing(harness) as push:
        with suppress(httpx.TransportError):  # the client may still write when the connection ends
            answer = await push.client.post("/ingest/porch", content=endless(), headers=BEARER)
            assert answer.status_code == 413
        await until(lambda: harness.ingest.uploads.in_progress == 0)
        assert push.ids() == []


async def test_paths_methods_and_cameras(harness: IngestHarness) -> None:
    harness.cameras.configure("gone", deleted=True)
    async with pushing(harness) as push:
        for path in ("/", "/ingest", "/ingest/", "/ingest/Not%20one", "/ingest/..%2Fporch", "/graphql"):
            assert (await push.client.post(path, content=ONE, headers=BEARER)).status_code == 404, path
        got = await push.client.get("/ingest/porch", headers=BEARER)
        assert (got.status_code, got.headers["allow"]) == (405, "POST, PUT")
        other = await push.client.post("/ingest/garden", content=ONE, headers=BEARER)
        assert (other.status_code, reason(other)) == (403, "OTHER_CAMERA")
        every = await push.client.post("/ingest/garden", content=ONE, headers={"x-api-key": "every"})
        assert every.json() == {"media": [id_of(ONE, "garden")]}
        reads = await push.client.post("/ingest/porch", content=ONE, headers={"x-api-key": "reads"})
        assert (reads.status_code, reason(reads)) == (403, "NOT_PERMITTED")
        gone = await push.client.post("/ingest/gone", content=ONE, headers={"x-api-key": "every"})
        assert (gone.status_code, reason(gone)) == (409, "CAMERA_DELETED")


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (BEARER, ""),
        ({"x-api-key": KEY}, ""),
        (basic("porch", KEY), ""),
        (basic("anything", KEY), ""),
        (basic(KEY, ""), ""),
        ({}, f"?key={KEY}"),
        ({}, f"?channel=1&key={KEY}&x"),
        (basic("", ""), f"?key={KEY}"),
        ({"authorization": 'Digest username="porch"'}, f"?key={KEY}"),
        # A camera that was given both; what it answers with its password is not looked at.
        ({"authorization": f'Digest username="x", realm="Lares", {REST}'}, f"?key={KEY}"),
    ],
)
async def test_ways_to_send_the_key(harness: IngestHarness, headers: dict[str, str], query: str) -> None:
    async with pushing(harness) as push:
        response = await push.client.post(f"/ingest/porch{query}", content=ONE, headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic %%%"}, basic("", ""), {"authorization": "Digest x"}]
)
async def test_without_a_key_it_is_asked_for_at_once(harness: IngestHarness, headers: dict[str, str]) -> None:
    async with pushing(harness) as push:
        response = await push.client.post("/ingest/porch", content=ONE, headers=headers)
        assert (response.status_code, reason(response)) == (401, "NO_API_KEY")
        ways = response.headers.get_list("www-authenticate")
        assert [way.split(",")[0] for way in ways] == [
            "Digest algorithm=SHA-256",
            "Digest algorithm=MD5",
            'Basic realm="Lares"',
        ]
        assert push.keys.asked == 0
        # The whole body was read, so that the connection goes on.
        assert "connection" not in response.headers


@dataclass
class DigestClient:
    """Answers challenges as a camera does, by RFC 7616, or by RFC 2069 if `is_old`."""

    push: Push
    algorithm: DigestAlgorithm = DigestAlgorithm.MD5
    user: str = "porch"
    secret: str = KEY
    is_old: bool = False
    nonce: str = ""

    async def challenged(self) -> None:
        response = await self.push.client.post("/ingest/porch", content=ONE)
        self.nonce = nonce_of(response, self.algorithm)

    async def send(self, count: int = 1, uri: str = "/ingest/porch", **wrong: str) -> httpx.Response:
        given = {"username": self.user, "realm": REALM, "nonce": self.nonce, "uri": uri}
        a1 = self.algorithm.hex(self.user, REALM, self.secret)
        a2 = self.algorithm.hex("POST", uri)
        middle = [self.nonce]
        if not self.is_old:
            given |= {"algorithm": self.algorithm.value, "qop": "auth", "nc": f"{count:08x}", "cnonce": "c"}
            middle += [given["nc"], "c", "auth"]
        given |= {"response": self.algorithm.hex(a1, *middle, a2)} | wrong
        header = "Digest " + ", ".join(f'{name}="{value}"' for name, value in given.items())
        return await self.push.client.post("/ingest/porch", content=ONE, headers={"authorization": header})


def nonce_of(response: httpx.Response, algorithm: DigestAlgorithm) -> str:
    (way,) = (
        way
        for way in response.headers.get_list("www-authenticate")
        if way.startswith(f"Digest algorithm={algorithm.value},")
    )
    found = re.search('nonce="([^"]+)"', way)
    assert found
    return found[1]


@pytest.mark.parametrize("path", ["/ingest/porch", "/ingest/porch/a%20b.jpg?channel=1"])
async def test_another_client_authenticates_by_digest(harness: IngestHarness, path: str) -> None:
    async with pushing(harness) as push:
        response = await push.client.post(path, content=ONE, auth=httpx.DigestAuth("porch", KEY))
        assert (response.status_code, response.json()) == (200, {"media": [id_of(ONE)]})


@pytest.mark.parametrize(
    ("algorithm", "is_old"),
    [(DigestAlgorithm.MD5, False), (DigestAlgorithm.MD5, True), (DigestAlgorithm.SHA_256, False)],
)
async def test_a_nonce_serves_each_of_its_counts_once(
    harness: IngestHarness, algorithm: DigestAlgorithm, is_old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "sleep", None)  # nothing is delayed
    async with pushing(harness) as push:
        camera = DigestClient(push, algorithm, is_old=is_old)
        await camera.challenged()
        assert (await camera.send()).status_code == 200
        again = await camera.send()
        assert (again.status_code, reason(again)) == (401, "STALE_NONCE")
        assert all("stale=true" in way for way in again.headers.get_list("www-authenticate")[:2])
        camera.nonce = nonce_of(again, algorithm)
        assert (await camera.send(count=2)).status_code == 200
        if not is_old:
            assert reason(await camera.send(count=1)) == "STALE_NONCE"
            assert (await camera.send(count=3)).status_code == 200


async def test_answers_that_do_not_fit_are_refused(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "FIRST_DELAY_SECONDS", 0.0)
    async with pushing(harness) as push:
        camera = DigestClient(push)
        await camera.challenged()
        refused = {
            "another secret": await DigestClient(push, secret="other", nonce=camera.nonce).send(),
            "a key of all cameras": await DigestClient(push, secret="every", nonce=camera.nonce).send(),
            "another path": await camera.send(uri="/ingest/porch/other"),
            "another method": await camera.send(response=camera.algorithm.hex("PUT", "/ingest/porch")),
        }
        assert {name: (r.status_code, reason(r)) for name, r in refused.items()} == dict.fromkeys(
            refused, (401, "BAD_API_KEY")
        )
        wrongs = ({"realm": "other"}, {"qop": "auth-int"}, {"algorithm": "MD5-sess"}, {"nc": "x"})
        for wrong in wrongs:
            assert reason(await camera.send(1, "/ingest/porch", **wrong)) == "NO_API_KEY"
        of_another_process = DigestClient(push, nonce=f"{int(time.monotonic()):x}.0a.{'0' * 32}")
        assert reason(await of_another_process.send()) == "STALE_NONCE"
        of_the_yard = await DigestClient(push, user="yard", secret="yard", nonce=camera.nonce).send(count=9)
        assert (of_the_yard.status_code, reason(of_the_yard)) == (403, "OTHER_CAMERA")
        await camera.challenged()
        # What was refused has used up nothing.
        assert (await camera.send()).status_code == 200


def test_a_nonce_is_too_old_after_five_minutes() -> None:
    now = 1000.0
    challenges = Challenges(lambda: now)

    def answer(nonce: str, count: int) -> DigestAnswer:
        text = f'username="u", realm="{REALM}", uri="/", nonce="{nonce}", qop=auth, nc={count:x}, cnonce="c"'
        parsed = DigestAnswer.parse(f'{text}, response="r"')
        assert parsed
        return parsed

    nonces = [challenges.headers(stale=False)[0].split('nonce="')[1].rstrip('"') for _ in range(2)]
    assert nonces[0] != nonces[1]
    assert challenges.accepts(answer(nonces[0], 1))
    now += NONCE_SECONDS
    assert challenges.accepts(answer(nonces[0], 2))
    now += 1
    assert not challenges.accepts(answer(nonces[0], 3))
    assert not challenges.accepts(answer(nonces[1], 1))


async def test_web_pages_are_refused_even_without_authentication(harness: IngestHarness) -> None:
    async with pushing(harness, auth=False) as push:
        foreign = await push.client.post(
            "/ingest/porch", content=ONE, headers={"origin": "https://evil.example"}
        )
        assert (foreign.status_code, reason(foreign)) == (403, "FOREIGN_ORIGIN")
        assert (await push.client.post("/ingest/porch", content=ONE)).status_code == 200


async def test_wrong_keys_are_delayed_more_and_more_and_few_at_a_time(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays, answer = list[float](), asyncio.Event()

    async def sleep(seconds: float) -> None:
        delays.append(seconds)
        await answer.wait()

    monkeypatch.setattr(authentication, "sleep", sleep)
    wrong = {"x-api-key": "wrong"}
    async with pushing(harness) as push:
        waiting = [
            asyncio.create_task(push.client.post("/ingest/porch", content=ONE, headers=wrong))
            for _ in range(authentication.MAX_WAITING)
        ]
        await until(lambda: len(delays) == len(waiting))
        asked = push.keys.asked
        more = await push.client.post("/ingest/porch", content=ONE, headers=wrong)
        assert (more.status_code, reason(more)) == (429, "TOO_MANY_ATTEMPTS")
        assert "retry-after" in more.headers
        assert push.keys.asked == asked
        answer.set()
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {401}
        assert (await push.client.post("/ingest/porch", content=ONE, headers=BEARER)).status_code == 200
    assert delays[:5] == [0.25, 0.5, 1, 2, 4]


async def test_keys_in_urls_are_in_no_log_span_or_answer(
    harness: IngestHarness,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "FIRST_DELAY_SECONDS", 0.0)
    caplog.set_level("DEBUG")
    wrong, texts = KEY.replace("abc", "xyz"), list[str]()
    with structlog.testing.capture_logs() as logs, recording_spans() as spans:
        async with pushing(harness) as push:
            for key in (KEY, wrong):
                for path in ("/ingest/porch", "/ingest/garden", "/elsewhere", f"/ingest/{key}"):
                    for content in (ONE, b"no picture"):
                        response = await push.client.post(f"{path}?key={key}", content=content)
                        texts.append(response.text + str(response.headers))
            with monkeypatch.context() as patched:
                patched.setattr(harness.ingest.uploads, "admit", lambda _: 1 / 0)
                response = await push.client.post(f"/ingest/porch?key={KEY}", content=ONE)
                assert response.status_code == 500
                texts.append(response.text)
            texts.append(str(await raw(push, f"POST /ingest/porch?key={KEY} HTTP/9\r\n\r\n".encode())))
    assert spans.named("POST /ingest")
    texts += [span.to_json() for span in spans.all()] + [json.dumps(log, default=repr) for log in logs]
    of_the_test = ("httpx", "httpcore")
    texts += [record.getMessage() for record in caplog.records if not record.name.startswith(of_the_test)]
    texts += list(capfd.readouterr())
    texts += [media.SerializeToString().decode("latin-1") for media in harness.bus.media]
    for text in texts:
        assert KEY not in text
        assert wrong not in text


async def test_the_body_is_not_asked_for_if_it_is_refused(harness: IngestHarness) -> None:
    async with pushing(harness) as push:
        head = request(expect="100-continue", **{"content-length": "9000000000"})
        answer = await raw(push, head)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answer
        head = request(expect="100-continue", connection="close", **{"content-length": str(len(ONE))})
        answer = await raw(push, head, ONE)
        assert answer.startswith(b"HTTP/1.1 100 ")
        assert id_of(ONE).encode() in answer


async def test_a_body_that_stops_is_given_up(harness: IngestHarness) -> None:
    async with pushing(harness) as push:
        harness.ingest.uploads._chunk_seconds = 0.1
        answer = await raw(push, request(**{"content-length": str(len(ONE))}), ONE[:1000])
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"UPLOAD_STALLED" in answer
        assert b"connection: close" in answer


async def test_a_form_that_stops_between_its_parts_is_given_up(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "BETWEEN_SECONDS", 0.1)
    head = request(**{"content-length": "1000", "content-type": "multipart/form-data; boundary=x"})
    async with pushing(harness) as push:
        answer = await raw(push, head, b"--x\r\nContent-Type: te")
        assert answer.startswith(b"HTTP/1.1 503 ")


async def test_headers_that_stop_or_never_end_are_given_up(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pushing(harness) as push:
        answer = await raw(push, b"POST / HTTP/1.1\r\n", b"a: " + b"x" * 100_000)
        assert answer.startswith(b"HTTP/1.1 400 ")
        monkeypatch.setattr(uvicorn_internals, "HEADER_SECONDS", 0.1)
        assert await raw(push, b"POST / HTTP/1.1\r\nHost: x\r\n") == b""
        assert await raw(push) == b""


async def test_a_client_that_is_gone_leaves_nothing(harness: IngestHarness) -> None:
    async with pushing(harness) as push:
        reader, writer = await asyncio.open_connection(*push.address)
        writer.write(request(**{"content-length": str(len(ONE))}) + ONE[:5000])
        await until(lambda: harness.ingest.uploads.in_progress == 1)
        writer.close()
        await until(lambda: harness.ingest.uploads.in_progress == 0)
        await until(lambda: list((harness.home / "media" / ".spool").iterdir()) == [])
        del reader
        assert push.ids() == []


async def test_what_may_pass_is_told_with_a_time_to_try_again(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.settings["upload_quota_bytes"] = 5000
    async with pushing(harness) as push:
        response = await push.client.post("/ingest/porch", content=ONE, headers=BEARER)
        assert (response.status_code, reason(response)) == (429, "UPLOAD_QUOTA")
        assert response.headers["retry-after"] == "5"
        monkeypatch.setattr(Spool, "free_bytes", lambda _: (0, 10**9))
        response = await push.client.post("/ingest/porch", content=ONE[:4000], headers=BEARER)
        assert (response.status_code, reason(response)) == (503, "DISK_FULL")


async def test_a_connection_is_used_again(harness: IngestHarness) -> None:
    async with pushing(harness) as push:
        twice = request(**{"content-length": str(len(ONE))}) + ONE
        last = request(connection="close", **{"content-length": str(len(TWO))}) + TWO
        answer = await raw(push, twice + twice + last)
        assert answer.count(b"HTTP/1.1 200 ") == 3


async def test_new_connections_show_a_renewed_certificate_and_open_ones_go_on(
    harness: IngestHarness, tmp_path: Path
) -> None:
    folder = tmp_path / "tls"
    issuer = Issuer()
    first = issuer.write(folder, key_type=KeyType.RSA)
    (folder / "ca.pem").write_bytes(issuer.pem)
    tls = opened({"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"})
    async with pushing(harness, tls=tls, trusted=folder / "ca.pem") as push:
        address = "{}:{}".format(*push.address)
        assert (await push.client.post("/ingest/porch/1.jpg", content=ONE, headers=BEARER)).status_code == 200
        assert await shown_by(address) == first
        second = issuer.write(folder)
        await renew(tls)
        assert await shown_by(address) == second
        assert (await push.client.post("/ingest/porch/2.jpg", content=TWO, headers=BEARER)).status_code == 200
        assert push.ids() == [id_of(ONE), id_of(TWO)]
        with pytest.raises((ssl.SSLError, OSError)):
            await shown_by(address, context=old_tls())
