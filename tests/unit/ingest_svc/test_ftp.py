"""The FTP receiver of a real ingest: what cameras send, and what others may try."""

import asyncio
import errno
import os
import socket
import ssl
import struct
import time
from contextlib import suppress
from ftplib import FTP, FTP_TLS, error_perm, error_temp
from pathlib import Path

import pytest
from trustme import KeyType

from ingest_svc.receiving.ftp import server, session
from ingest_svc.receiving.ftp.camera_uploads import EXPIRE_SECONDS, HIDDEN_FOLDER
from tests.support.certificates import Issuer, old_tls, renew, serial_of, write_certificate
from tests.support.ftp import read_lines, receiving, refused, send
from tests.support.image_files import jpeg
from tests.support.ingest_harness import IngestHarness
from tests.support.waiting import until

PHOTO = jpeg("one", pixels=b"\x12\r\n" * 5000)


def files(harness: IngestHarness, camera: str = "porch") -> dict[str, bytes]:
    """What lies in a camera's folder and is not hidden."""
    folder = harness.root / camera
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and HIDDEN_FOLDER not in file.parts
    }


def abort(client: FTP) -> None:
    client.putcmd("ABOR")
    assert [client.getmultiline()[:3] for _ in range(2)] == ["426", "226"]


def hidden(harness: IngestHarness, camera: str = "porch") -> list[Path]:
    return list((harness.root / camera / HIDDEN_FOLDER).iterdir())


async def test_a_file_sent_by_ftp_arrives_as_media(harness: IngestHarness) -> None:
    async with receiving(harness) as ftp:
        assert (await ftp.use(send("2026/11/28/a.jpg", PHOTO))).startswith("226")
        await until(lambda: harness.bus.media)
    (media,) = harness.bus.media
    assert (media.camera_id, media.file.path) == ("porch", "porch/2026/11/28/a.jpg")
    assert files(harness) == {"2026/11/28/a.jpg": PHOTO}
    assert hidden(harness) == []


async def test_a_file_sent_by_tls_arrives_as_media(harness: IngestHarness, tmp_path: Path) -> None:
    async with receiving(harness, write_certificate(tmp_path)) as ftp:
        assert (await ftp.use(send("a.jpg", PHOTO))).startswith("226")
        await until(lambda: harness.bus.media)
        assert files(harness) == {"a.jpg": PHOTO}


async def test_with_a_certificate_nothing_goes_without_tls(harness: IngestHarness, tmp_path: Path) -> None:
    def plainly(client: FTP) -> str:
        return client.login("porch", "porch-password")

    def clear_data(client: FTP_TLS) -> None:
        client.login("porch", "porch-password")
        replies = [refused(lambda c: c.sendcmd("PASV"))(client)]
        client.prot_p()
        replies.append(refused(lambda c: c.sendcmd("PROT C"))(client))
        replies.append(refused(lambda c: c.sendcmd("CCC"))(client))
        assert [reply[:3] for reply in replies] == ["550", "534", "550"]
        client.sendcmd("REIN")
        assert refused(lambda c: c.sendcmd("PASV"))(client)[:3] in ("530", "550")

    async with receiving(harness, write_certificate(tmp_path)) as ftp:
        with ftp.client(tls=False) as client:
            assert (await asyncio.to_thread(refused(plainly), client)).startswith("550")
        with ftp.client() as client:
            assert isinstance(client, FTP_TLS)
            await asyncio.to_thread(clear_data, client)
        assert ftp.keys.asked == 1
    assert files(harness) == {}


async def test_what_was_said_before_tls_does_not_count(harness: IngestHarness, tmp_path: Path) -> None:
    def work() -> str:
        with ftp.client() as client:
            assert isinstance(client, FTP_TLS)
            client.login("porch", "porch-password", secure=False)
            client.auth()
            return refused(lambda c: c.sendcmd("PASV"))(client)

    async with receiving(harness, write_certificate(tmp_path), ftp_plaintext=True) as ftp:
        assert (await asyncio.to_thread(work)).startswith("530")


async def test_old_versions_of_tls_are_refused(harness: IngestHarness, tmp_path: Path) -> None:
    def connect() -> None:
        with FTP_TLS(context=old_tls(), timeout=60) as client:
            client.connect(ftp.host, ftp.port)
            client.auth()

    async with receiving(harness, write_certificate(tmp_path)) as ftp:
        with pytest.raises((ssl.SSLError, OSError, EOFError)):
            await asyncio.to_thread(connect)


async def test_a_session_that_begins_after_a_renewal_shows_the_new_certificate(
    harness: IngestHarness, tmp_path: Path
) -> None:
    issuer = Issuer()
    first = issuer.write(tmp_path, key_type=KeyType.RSA)
    (tmp_path / "ca.pem").write_bytes(issuer.pem)
    files = {f"tls_{name}": tmp_path / f"{name}.pem" for name in ("cert", "key", "ca")}

    def serial(client: FTP_TLS) -> int:
        assert isinstance(client.sock, ssl.SSLSocket)
        shown = client.sock.getpeercert(binary_form=True)
        assert shown
        return serial_of(shown)

    def logged_in() -> FTP_TLS:
        client = ftp.client()
        assert isinstance(client, FTP_TLS)
        client.login("porch", "porch-password")
        client.prot_p()
        return client

    async with receiving(harness, files) as ftp:
        assert ftp.tls
        with await asyncio.to_thread(logged_in) as before:
            assert serial(before) == first
            second = issuer.write(tmp_path)
            await renew(ftp.tls)
            with await asyncio.to_thread(logged_in) as after:
                assert serial(after) == second
                assert (await asyncio.to_thread(send("after.jpg", jpeg("after")), after)).startswith("226")
            # A session that began before goes on, with new data connections.
            assert (await asyncio.to_thread(send("before.jpg", jpeg("before")), before)).startswith("226")


async def test_what_is_put_behind_auth_in_plain_text_is_no_command(
    harness: IngestHarness, tmp_path: Path
) -> None:
    def inject() -> str:
        with socket.create_connection((ftp.host, ftp.port), 60) as plain:
            plain.recv(1000)
            plain.sendall(b"AUTH TLS\r\nUSER door\r\n")
            assert plain.recv(1000).startswith(b"234")
            context = ssl.create_default_context(cafile=str(files_of_tls["tls_ca"]))
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"PASS door-password\r\n")
                return secure.recv(1000).decode()

    files_of_tls = write_certificate(tmp_path)
    async with receiving(harness, files_of_tls) as ftp:
        assert (await asyncio.to_thread(inject)).startswith("503")
        assert ftp.keys.asked == 0


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("porch", "wrong"),
        ("porch", "door-password"),
        ("porch", "admin"),
        ("porch", "upload-all"),
        ("Porch", "porch-password"),
        ("../porch", "porch-password"),
        ("porch/", "porch-password"),
        ("anonymous", "porch-password"),
    ],
)
async def test_an_account_is_opened_by_the_key_of_its_camera_alone(
    harness: IngestHarness, user: str, password: str
) -> None:
    async with receiving(harness) as ftp:
        with pytest.raises(error_perm, match="530"):
            await ftp.use(send("a.jpg", PHOTO), user, password)
    assert files(harness) == {}


async def test_the_account_of_a_deleted_or_disabled_camera_is_closed(harness: IngestHarness) -> None:
    harness.cameras.configure("porch", enabled=False)
    harness.cameras.configure("door", deleted=True)
    async with receiving(harness) as ftp:
        for camera in ("porch", "door"):
            with pytest.raises(error_perm, match="530"):
                await ftp.use(send("a.jpg", PHOTO), camera)


async def test_an_open_session_ends_with_its_key_and_not_with_the_store(harness: IngestHarness) -> None:
    def two_files(client: FTP) -> str:
        ftp.keys.away = True
        assert send("a.jpg", PHOTO)(client).startswith("226")
        ftp.keys.away = False
        ftp.keys.callers.clear()
        return refused(send("b.jpg", PHOTO))(client)

    async with receiving(harness) as ftp:
        assert (await ftp.use(two_files)).startswith("530")
        ftp.keys.away = True
        with pytest.raises(error_temp, match="421"):
            await ftp.use(send("c.jpg", PHOTO))
        assert files(harness) == {"a.jpg": PHOTO}


async def test_accounts_send_and_do_nothing_else(harness: IngestHarness) -> None:
    harness.drop("porch/others.jpg", PHOTO)
    others = [
        *("RETR others.jpg", "DELE others.jpg", "RMD /", "XRMD /", "SITE CHMOD 777 others.jpg", "SITE HELP"),
        *("MFMT 20260101000000 others.jpg", "SIZE others.jpg", "MDTM others.jpg", "RNFR others.jpg"),
        *("RNTO x.jpg", "MLST others.jpg", "SMNT /", "APPE others.jpg"),
    ]

    def work(client: FTP) -> None:
        client.voidcmd("TYPE I")
        client.makepasv()
        for command in others:
            assert refused(lambda c, command=command: c.sendcmd(command))(client)[:1] == "5", command  # type: ignore[misc]
        for command in ("LIST", "NLST", "MLSD", "LIST -la", "NLST others.jpg"):
            assert read_lines(client, command) == []
        assert "others" not in client.sendcmd("STAT")
        assert send("own.jpg", PHOTO)(client).startswith("226")
        assert read_lines(client, "NLST") == ["own.jpg"]
        assert read_lines(client, "LIST /")[0].endswith(" own.jpg")
        assert client.size("own.jpg") == len(PHOTO)
        assert refused(lambda c: c.delete("own.jpg"))(client).startswith("550")
        assert refused(lambda c: c.sendcmd("RETR own.jpg"))(client).startswith("550")

    async with receiving(harness) as ftp:
        await ftp.use(work)
        await ftp.use(lambda client: refused(lambda c: c.rename("own.jpg", "mine.jpg"))(client))
    assert files(harness) == {"others.jpg": PHOTO, "own.jpg": PHOTO}


@pytest.mark.parametrize(
    ("path", "lies_at"),
    [
        ("/a.jpg", "a.jpg"),
        ("../../../a.jpg", "a.jpg"),
        ("/../door/a.jpg", "door/a.jpg"),
        ("..\\..\\a.jpg", "a.jpg"),
        ("2026\\11\\28\\a.jpg", "2026/11/28/a.jpg"),
        ("C:\\ftp\\a.jpg", "C:/ftp/a.jpg"),
        ("./x//y/./../z/a.jpg", "x/z/a.jpg"),
        ("with space.jpg", "with space.jpg"),
        ("b\xfcro.jpg", os.fsdecode(b"b\xfcro.jpg")),  # Latin-1
        ("b\xc3\xbcro.jpg", "b\u00fcro.jpg"),  # UTF-8
        ("\xbc\xda\xb8\xe5.jpg", os.fsdecode(b"\xbc\xda\xb8\xe5.jpg")),  # GB 2312
        ('"quoted".jpg', '"quoted".jpg'),
        ("-la", "-la"),
        ("x" * 236 + ".jpg", "x" * 236 + ".jpg"),
    ],
)
async def test_every_name_stays_in_the_cameras_folder(
    harness: IngestHarness, path: str, lies_at: str
) -> None:
    async with receiving(harness) as ftp:
        assert (await ftp.use(send(path, PHOTO))).startswith("226")
    assert files(harness) == {lies_at: PHOTO}
    assert {entry.name for entry in harness.root.iterdir() if not entry.name.startswith(".")} == {"porch"}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "..",
            "x/..",
            "y" * 241,
            "/".join("z" * 17),
            "a\x01.jpg",
            "a\x7f.jpg",
            "a\x00.jpg",
            "a\x1b[2J",
        ),
        *(
            ".hidden.jpg",
            ".lares.ftp/a.jpg",
            "@eaDir/a.jpg",
            "x/.git/a.jpg",
            "Thumbs.db",
            ".tmp",
            "/".join(["w" * 200] * 6),
        ),
    ],
)
async def test_names_that_are_never_taken_in_are_refused(harness: IngestHarness, path: str) -> None:
    async with receiving(harness) as ftp:
        assert (await ftp.use(refused(send(path, PHOTO))))[:3] in ("553", "501")
    assert files(harness) == {}


async def test_links_in_a_cameras_folder_are_not_followed(harness: IngestHarness, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (harness.root / "porch").mkdir()
    (harness.root / "porch" / "link").symlink_to(outside)
    (harness.root / "door").symlink_to(outside)
    (harness.root / "porch" / "file.jpg").symlink_to(outside / "file.jpg")
    async with receiving(harness) as ftp:
        assert (await ftp.use(refused(send("link/a.jpg", PHOTO)))).startswith("553")
        assert (await ftp.use(refused(send("a.jpg", PHOTO)), "door")).startswith("553")
        assert (await ftp.use(send("file.jpg", PHOTO))).startswith("226")
    assert list(outside.iterdir()) == []


async def test_folders_are_where_the_camera_makes_them(harness: IngestHarness) -> None:
    def work(client: FTP) -> None:
        client.mkd("20261128")
        client.cwd("20261128")
        client.sendcmd("XMKD images")
        client.sendcmd("XCWD images")
        assert client.pwd() == "/20261128/images"
        send("a.jpg", PHOTO)(client)
        client.cwd("..")
        client.sendcmd("CDUP")
        client.sendcmd("CDUP")
        assert client.pwd() == "/"
        client.cwd("not/yet/there")
        client.mkd('/odd "name"')

    async with receiving(harness) as ftp:
        await ftp.use(work)
    assert files(harness) == {"20261128/images/a.jpg": PHOTO}
    assert not (harness.root / "porch" / "not").exists()


async def test_a_file_that_its_camera_renames_is_announced_once(harness: IngestHarness) -> None:
    second = jpeg("two", pixels=b"\x13" * 999)

    def work(client: FTP) -> None:
        send("x/a.jpg.tmp", PHOTO)(client)
        client.rename("x/a.jpg.tmp", "y/a.jpg")
        send("b.jpg", second)(client)
        client.rename("b.jpg", "c.jpg")
        client.rename("c.jpg", "d.jpg")
        assert client.size("d.jpg") == len(second)

    async with receiving(harness) as ftp:
        await ftp.use(work)
        await until(lambda: len(harness.bus.media) == 2 and harness.idle)
        await ftp.use(send("last.jpg", jpeg("last")))
        await until(lambda: "porch/last.jpg" in harness.paths)
    assert sorted(harness.paths) == ["porch/b.jpg", "porch/last.jpg", "porch/y/a.jpg"]
    assert harness.rejected == {}


async def test_a_picture_that_is_not_taken_in_yet_is_not_overwritten(harness: IngestHarness) -> None:
    pictures = [jpeg(f"picture {number}") for number in range(5)]

    def work(client: FTP) -> None:
        for picture in pictures:
            assert send("image.jpg", picture)(client).startswith("226")

    async with receiving(harness) as ftp:
        await ftp.use(work)
        await until(lambda: len(harness.bus.media) == len(pictures))
    assert sorted(files(harness).values()) == sorted(pictures)
    assert "image.jpg" in files(harness)


@pytest.mark.parametrize(
    "name", ["test.txt", "DahuaFtpTest.txt", "ReolinkTest.txt", "Test", "ftp_test.jpg", "x/hik_test.hik"]
)
async def test_the_test_of_a_camera_is_dropped(harness: IngestHarness, name: str) -> None:
    def work(client: FTP) -> None:
        assert send(name, b"This is a test file.\r\n")(client).startswith("226")
        assert read_lines(client, "NLST x" if "/" in name else "NLST") == [name.rpartition("/")[2]]
        client.delete(name)
        assert send("empty.jpg", b"")(client).startswith("226")
        assert send("test-of-light.jpg", PHOTO)(client).startswith("226")

    async with receiving(harness) as ftp:
        await ftp.use(work)
        await until(lambda: harness.bus.media and harness.idle)
    assert files(harness) == {"test-of-light.jpg": PHOTO}
    assert (harness.rejected, hidden(harness)) == ({}, [])


async def test_what_is_no_media_is_still_a_rejection(harness: IngestHarness) -> None:
    async with receiving(harness) as ftp:
        await ftp.use(send("notes.txt", b"no test of a maker"))
        await until(lambda: harness.rejected)
    assert list(harness.rejected) == ["porch/notes.txt"]


async def test_an_upload_that_broke_goes_on(harness: IngestHarness) -> None:
    def breaks(client: FTP) -> str:
        connection = client.transfercmd("STOR a.jpg")
        connection.sendall(PHOTO[:1000])
        until_size(client, 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # resets it
        return refused(lambda c: c.voidresp())(client)

    def until_size(client: FTP, size: int) -> None:
        client.voidcmd("TYPE I")
        while client.size("a.jpg") != size:
            time.sleep(0.01)

    def goes_on(client: FTP) -> str:
        client.voidcmd("TYPE I")
        assert client.size("a.jpg") == 1000
        assert refused(send("a.jpg", b"", rest=1001))(client).startswith("554")
        return send("a.jpg", PHOTO[600:], rest=600)(client)

    async with receiving(harness) as ftp:
        assert (await ftp.use(breaks)).startswith("426")
        assert files(harness) == {}
        assert (await ftp.use(goes_on)).startswith("226")
        assert files(harness) == {"a.jpg": PHOTO}
        assert (await ftp.use(breaks)).startswith("426")
        assert (await ftp.use(refused(send("a.jpg", b"more", "APPE")))).startswith("553")
    assert files(harness) == {"a.jpg": PHOTO}


async def test_appe_continues_what_is_unfinished(harness: IngestHarness) -> None:
    def work(client: FTP) -> str:
        connection = client.transfercmd("STOR a.jpg")
        connection.sendall(PHOTO[:1000])
        client.voidcmd("TYPE I")
        while client.size("a.jpg") != 1000:
            time.sleep(0.01)
        with ftp.client() as other:
            other.login("porch", "porch-password")
            assert refused(send("a.jpg", b""))(other).startswith("450")
        abort(client)
        connection.close()
        return send("a.jpg", PHOTO[1000:], "APPE")(client)

    async with receiving(harness) as ftp:
        assert (await ftp.use(work)).startswith("226")
    assert files(harness) == {"a.jpg": PHOTO}


async def test_a_lost_control_connection_leaves_no_file(harness: IngestHarness) -> None:
    def work(client: FTP) -> None:
        with client.transfercmd("STOR a.jpg") as connection:
            connection.sendall(PHOTO[:1000])
            client.close()
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""

    async with receiving(harness) as ftp:
        client = ftp.client()
        await asyncio.to_thread(client.login, "porch", "porch-password")
        await asyncio.to_thread(work, client)
        await ftp.use(send("b.jpg", PHOTO))
    assert files(harness) == {"b.jpg": PHOTO}


async def test_stou_gives_each_file_a_name(harness: IngestHarness) -> None:
    async with receiving(harness) as ftp:
        for name in ("", "a.jpg", "a.jpg"):
            assert (await ftp.use(send(name, PHOTO, "STOU"))).startswith("226")
    assert list(files(harness).values()) == [PHOTO] * 3


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "fsync", "link", "folder"])
async def test_a_file_that_cannot_be_stored_gets_no_226(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch, error: int, step: str
) -> None:
    module = "ingest_svc.receiving.ftp.camera_uploads.os"
    real = os.fsync

    def fails(*_: object, **__: object) -> int:
        raise OSError(error, os.strerror(error))

    def fails_for_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            fails()
        real(descriptor)

    def fails_for_files(descriptor: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
            fails()
        real(descriptor)

    async with receiving(harness) as ftp:
        await ftp.use(send("first.jpg", jpeg("first")))
        broken = {
            "write": ("write", fails),
            "fsync": ("fsync", fails_for_files),
            "link": ("link", fails),
            "folder": ("fsync", fails_for_folders),
        }[step]
        with monkeypatch.context() as patched:
            patched.setattr(f"{module}.{broken[0]}", broken[1])
            reply = await ftp.use(refused(send("a.jpg", PHOTO)))
        assert reply.startswith("451" if error == errno.EIO else "452")
        if step != "folder":
            assert "a.jpg" not in files(harness)
        assert (await ftp.use(send("a.jpg", PHOTO))).startswith("226")
    assert files(harness)["a.jpg"] == PHOTO


async def test_a_full_disk_is_told_by_tls_too(
    harness: IngestHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(descriptor: int, chunk: bytes) -> int:
        if len(chunk) > 1:  # others write, too: pyftpdlib to look whether a connection is there
            raise OSError(errno.ENOSPC, "no space")
        return write(descriptor, chunk)

    async with receiving(harness, write_certificate(tmp_path)) as ftp:
        with monkeypatch.context() as patched:
            patched.setattr("ingest_svc.receiving.ftp.camera_uploads.os.write", full)
            assert (await ftp.use(refused(send("a.jpg", PHOTO)))).startswith("452")


async def test_a_file_that_is_too_large_is_refused(harness: IngestHarness) -> None:
    async with receiving(harness, ingest_max_bytes=1000, clip_max_bytes=2000) as ftp:
        assert (await ftp.use(refused(send("a.jpg", b"x" * 3000)))).startswith("552")
        assert (await ftp.use(send("b.jpg", PHOTO[:2000]))).startswith("226")
    assert set(files(harness)) == {"b.jpg"}


async def test_unfinished_files_expire(harness: IngestHarness) -> None:
    def breaks(client: FTP) -> None:
        connection = client.transfercmd("STOR a.jpg")
        connection.sendall(PHOTO[:1000])
        client.voidcmd("TYPE I")
        while client.size("a.jpg") != 1000:
            time.sleep(0.01)
        harness.ingest.camera_uploads.expire(time.time() + 2 * EXPIRE_SECONDS)  # it is being written
        abort(client)

    async with receiving(harness) as ftp:
        await ftp.use(breaks)
        (unfinished,) = hidden(harness)
        harness.ingest.camera_uploads.expire(time.time() + EXPIRE_SECONDS / 2)
        assert unfinished.exists()
        harness.ingest.camera_uploads.expire(time.time() + 2 * EXPIRE_SECONDS)
        assert hidden(harness) == []


async def test_data_goes_to_and_comes_from_the_client_alone(harness: IngestHarness) -> None:
    def foreign(client: FTP) -> None:
        for command in ("PORT 10,0,0,9,200,10", "EPRT |1|10.0.0.9|51210|", "PORT 127,0,0,1,0,22"):
            assert refused(lambda c, command=command: c.sendcmd(command))(client).startswith("501")  # type: ignore[misc]
        _, port = client.makepasv()
        with socket.create_connection(("127.0.0.1", port), 60, ("127.0.0.2", 0)) as other:
            other.settimeout(60)
            assert other.recv(10) == b""
        assert refused(lambda c: c.voidresp())(client).startswith("425")

    def active(client: FTP) -> str:
        client.set_pasv(False)
        return send("active.jpg", PHOTO)(client)

    async with receiving(harness) as ftp:
        await ftp.use(foreign)
        assert (await ftp.use(active)).startswith("226")
        assert (await ftp.use(refused(lambda client: client.sendcmd("STOR a.jpg")))).startswith("425")
    assert files(harness) == {"active.jpg": PHOTO}


async def test_passive_data_comes_to_the_ports_of_the_setting(harness: IngestHarness) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with receiving(harness, ftp_passive_ports=f"{port}-{port}") as ftp:
        assert (await ftp.use(lambda client: client.makepasv()))[1] == port


@pytest.mark.parametrize("tls", [False, True])
async def test_passive_mode_tells_the_address_of_the_setting(
    harness: IngestHarness, tmp_path: Path, tls: bool
) -> None:
    """And clients that are told none, by EPSV, still come to where they are."""
    certificate = write_certificate(tmp_path) if tls else None
    async with receiving(harness, certificate, ftp_passive_address="192.0.2.7") as ftp:
        reply = await ftp.use(lambda client: client.sendcmd("PASV"))
        assert reply.startswith("227")
        assert "(192,0,2,7," in reply
        assert "(|||" in await ftp.use(lambda client: client.sendcmd("EPSV"))
        # ftplib connects to where its commands go, whatever it is told, as cameras behind a proxy have to.
        assert (await ftp.use(send("a.jpg", PHOTO))).startswith("226")


async def test_sessions_are_bounded(harness: IngestHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_OF_ADDRESS", 2)
    async with receiving(harness) as ftp:
        first, second = ftp.client(), ftp.client()
        with pytest.raises((error_temp, EOFError), match="421"):
            ftp.client()
        first.quit()
        first.close()

        def again() -> bool:
            try:
                ftp.client().close()
            except error_temp:
                return False
            return True

        await until(again)
        second.close()


async def test_idle_sessions_are_closed(harness: IngestHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.Session, "timeout", 0.2)
    monkeypatch.setattr(session, "IDLE_SECONDS", 0.2)
    async with receiving(harness) as ftp:
        with ftp.client() as client:
            assert (await asyncio.to_thread(client.getline)).startswith("421")
        assert (await ftp.use(lambda client: client.getline())).startswith("421")


async def test_whoever_does_not_log_in_is_sent_away(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LONGEST_LOGIN_SECONDS", 0.3)

    def chats(client: FTP) -> None:
        while True:
            client.voidcmd("NOOP")
            time.sleep(0.01)

    def stays(client: FTP) -> str:
        time.sleep(0.5)  # for longer than the login may take
        return client.voidcmd("NOOP")

    async with receiving(harness) as ftp:
        with ftp.client() as client, pytest.raises((error_temp, EOFError)):
            await asyncio.to_thread(chats, client)
        assert (await ftp.use(stays)).startswith("200")


async def test_a_camera_whose_folder_is_ignored_sends_nothing(harness: IngestHarness) -> None:
    async with receiving(harness, ingest_ignore=["porch"]) as ftp:
        assert (await ftp.use(refused(send("a.jpg", PHOTO)))).startswith("553")


async def test_a_session_that_waits_does_not_hold_up_the_end(harness: IngestHarness) -> None:
    async with receiving(harness) as ftp:
        client = ftp.client()
        await asyncio.to_thread(client.login, "porch", "porch-password")
        transfer = await asyncio.to_thread(client.transfercmd, "STOR a.jpg")
        transfer.sendall(PHOTO[:100])
    transfer.close()
    client.close()
    assert files(harness) == {}


async def test_the_cameras_folder_that_is_away_takes_no_files(
    harness: IngestHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(harness) as ftp:
        monkeypatch.setattr(harness.ingest.camera_uploads, "_away", lambda: "it is not mounted")
        assert (await ftp.use(refused(send("a.jpg", PHOTO)))).startswith("451")


async def test_ascii_changes_nothing(harness: IngestHarness) -> None:
    def work(client: FTP) -> str:
        client.voidcmd("TYPE A")
        return send("a.jpg", PHOTO)(client)

    async with receiving(harness) as ftp:
        await ftp.use(work)
    assert files(harness) == {"a.jpg": PHOTO}


async def test_a_folder_of_another_name_stays_the_cameras(harness: IngestHarness) -> None:
    harness.drop("Porch/a.jpg", PHOTO)
    async with receiving(harness) as ftp:
        await until(lambda: harness.bus.media)
        await ftp.use(send("b.jpg", PHOTO))
        assert set(files(harness, "Porch")) == {"a.jpg", "b.jpg"}
