"""A real S3 server for tests: SeaweedFS on loopback, with throw-away data."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from mesh.processes.parent_death import tied_to_parent
from tests.support.lares import free_ports

WEED = Path(sys.executable).with_name("weed")
KEY, SECRET = "lares", "a/secret+of=the@tests"
READER, READER_SECRET = "reader", "another-secret"
WRITER, WRITER_SECRET = "writer", "a-third-secret"
START_SECONDS = 90.0
# The server also uses the port that is this much higher, for gRPC.
TWIN = 10_000
# The server leaves sockets here that are named after its ports.
SOCKETS = Path("/tmp")


@dataclass(frozen=True)
class S3:
    endpoint: str
    log: Path
    _shell: tuple[str, ...]

    def url(self, bucket: str, prefix: str = "", key: str = KEY, secret: str = SECRET) -> str:
        """Returns the LARES_BLOBS_URL, with credentials."""
        path = f"/{prefix}" if prefix else ""
        return f"s3://{key}:{quote(secret, safe='')}@{bucket}{path}?endpoint={self.endpoint}&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        """Creates a bucket. Blocks for some seconds, since the server is not ready when its port is open."""
        self._command(f"s3.bucket.create -name {name}\ns3.bucket.list\n", f" {name}\t")

    def add_key(self, user: str, key: str, secret: str) -> None:
        """Gives a user, who is made if there is none, all permissions by one more key. Blocks."""
        allowed = "Admin,Read,Write,List,Tagging"
        self._command(
            f"s3.configure -user={user} -access_key={key} -secret_key={secret} -actions={allowed} -apply\n",
            f'"{key}"',
        )

    def remove_key(self, user: str, key: str) -> None:
        """From then on the server refuses this key. Blocks."""
        self._command(f"s3.configure -user={user} -access_key={key} -delete -apply\n", f'"{user}"')

    def _command(self, text: str, expected: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            made = subprocess.run(
                self._shell, input=text, capture_output=True, text=True, timeout=60, check=False
            )
            if expected in made.stdout:
                return
            assert time.monotonic() < deadline, made.stdout + made.stderr
            time.sleep(0.2)


class S3Server:
    """A server on its own folder and ports, which can be killed and started again."""

    def __init__(self, folder: Path, ports: Sequence[int] = ()) -> None:
        """`ports` are four, whose gRPC ports must be free, too; by default any such."""
        folder.mkdir(parents=True, exist_ok=True)
        identities = [
            _identity(KEY, SECRET, "Admin", "Read", "Write", "List", "Tagging"),
            _identity(READER, READER_SECRET, "Read", "List"),
            _identity(WRITER, WRITER_SECRET, "Write", "List"),
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))
        self._folder = folder
        self._ports = list(ports) or _ports(4)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "weed.log"

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def pid(self) -> int:
        """Of the process that runs now, or 0."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    @property
    def s3(self) -> S3:
        _, master, _, filer = self._ports
        shell = (str(WEED), "shell", "-master", f"127.0.0.1:{master}", "-filer", f"127.0.0.1:{filer}")
        return S3(f"http://127.0.0.1:{self.port}", self.log, shell)

    def start(self) -> None:
        folder, (s3, master, volume, filer) = self._folder, self._ports
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_parent(
                    [
                        str(WEED),
                        f"-logdir={folder}",
                        "server",
                        "-s3",
                        "-ip=127.0.0.1",
                        "-ip.bind=127.0.0.1",
                        f"-dir={folder}",
                        f"-s3.config={folder}/identities.json",
                        f"-s3.port={s3}",
                        f"-master.port={master}",
                        f"-volume.port={volume}",
                        f"-filer.port={filer}",
                        "-volume.max=40",
                        "-master.volumeSizeLimitMB=64",
                        "-master.electionTimeout=1s",
                        "-s3.port.iceberg=0",
                        "-s3.port.lance=0",
                    ]
                ),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )

    def until_open(self) -> None:
        """Blocks until its port is open."""
        assert self._process is not None
        _until_open(self.s3.endpoint, self._process, self.log)

    def kill(self) -> None:
        """It stops slowly by itself."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        for port in [*self._ports, *(port + TWIN for port in self._ports)]:
            for left in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()


@contextmanager
def running_s3(folder: Path) -> Iterator[S3]:
    """Starts a server. It is killed when the block ends."""
    server = S3Server(folder)
    server.start()
    try:
        server.until_open()
        yield server.s3
    finally:
        server.kill()


def _identity(key: str, secret: str, *actions: str) -> dict[str, object]:
    return {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": list(actions)}


def _ports(count: int) -> list[int]:
    """Returns free ports whose gRPC ports are free, too."""
    found: list[int] = []
    taken = set[int]()
    while len(found) < count:
        (port,) = free_ports(1)
        if port + TWIN >= 65_536:
            port -= TWIN
        pair = {port, port + TWIN}
        if pair & taken:
            continue
        try:
            for number in pair:
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        found.append(port)
        taken |= pair
    return found


def _until_open(endpoint: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(endpoint, timeout=1)
            return
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
