"""A camera that sends by FTP, and by HTTP with digest authentication, to a whole Lares, with the account that
the command line has made."""

import asyncio
import sys
from ftplib import FTP, error_perm
from pathlib import Path

import httpx

from tests.support.ftp import send
from tests.support.lares import ROOT, Lares, free_ports
from tests.support.photos import people
from tests.support.waiting import until

STATUS = "{ status { ingest { warnings } } }"
EVENTS = "{ events(first: 10) { edges { node { camera { id } labels } } } }"


async def command(lares: Lares, port: int, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy", *arguments, "--home", str(lares.home)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={"LARES_FTP_LISTEN": f"127.0.0.1:{port}", "LARES_FTP_PLAINTEXT": "true"},
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_a_photo_sent_by_ftp_becomes_an_event(tmp_path: Path, postgres_url: str) -> None:
    port, push_port = free_ports(2)
    settings = {
        "LARES_FTP_LISTEN": f"127.0.0.1:{port}",
        "LARES_FTP_PLAINTEXT": "true",
        "LARES_PUSH_LISTEN": f"127.0.0.1:{push_port}",
        "LARES_DATABASE_URL": postgres_url,
    }
    lares = Lares(tmp_path / "home", settings)

    def deliver(password: str) -> str:
        with FTP(timeout=60) as client:
            client.connect("127.0.0.1", port)
            client.login("porch", password)
            client.mkd("20261128")
            return send("20261128/a.jpg", people()[0].read_bytes())(client)

    def is_closed(password: str) -> bool:
        try:
            deliver(password)
        except error_perm as error:
            return str(error).startswith("530")
        return False

    lares.start()
    try:
        await lares.ready()
        account = await command(lares, port, "cameras", "ftp-account", "porch")
        printed = dict(line.split(maxsplit=1) for line in account.splitlines())
        assert (printed["Port"], printed["User"]) == (str(port), "porch")
        assert (await asyncio.to_thread(deliver, printed["Password"])).startswith("226")
        await lares.until_stored(1)
        await lares.idle()
        (event,) = (await lares.graphql(EVENTS))["events"]["edges"]
        assert event["node"] == {"camera": {"id": "porch"}, "labels": ["person"]}
        (warning,) = (await lares.graphql(STATUS))["status"]["ingest"]["warnings"]
        assert warning.startswith("FTP without TLS is allowed")
        async with httpx.AsyncClient(auth=httpx.DigestAuth("porch", printed["Password"])) as camera:
            url = f"http://127.0.0.1:{push_port}/ingest/porch/b.jpg"
            pushed = await camera.post(url, content=people()[1].read_bytes(), timeout=60)
        assert pushed.status_code == 200, pushed.text
        # The password opens nothing else, and nothing once it is revoked.
        with_password = {"x-api-key": printed["Password"]}
        assert (await lares.get("/metrics", **with_password)).status_code == 403
        read = await lares.get("/graphql?query={cameras{edges{node{id}}}}", **with_password)
        assert "porch" not in read.text
        keys = await command(lares, port, "keys", "list")
        (listed,) = [line for line in keys.splitlines() if "porch" in line]
        assert "[UPLOAD for porch]" in listed
        await command(lares, port, "keys", "revoke", listed.split()[0])
        await until(lambda: is_closed(printed["Password"]))
        assert printed["Password"] not in lares.log.read_text()
    finally:
        await lares.close()
