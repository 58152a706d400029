"""Lists events, follows their changes, or uploads a photo or clip, over gRPC with an API key.

    .venv/bin/python examples/grpc_client.py                        list the newest events
    .venv/bin/python examples/grpc_client.py --watch                follow changes from now on
    .venv/bin/python examples/grpc_client.py --watch --after 0      first every change that is kept
    .venv/bin/python examples/grpc_client.py --watch --camera front-door
    .venv/bin/python examples/grpc_client.py --upload photo.jpg --camera front-door

Needs `grpcio`, and from Lares only the generated code in proto/gen.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import grpc

from lares.ingest.v1.ingest_service_pb2 import GetUploadRequest, UploadHeader, UploadMediaRequest
from lares.ingest.v1.ingest_service_pb2_grpc import IngestServiceStub
from lares.reason.v1.assessment_pb2 import Severity
from lares.store.v1.event_pb2 import Event, EventStatus
from lares.store.v1.event_service_pb2 import ListEventsRequest, WatchEventsRequest
from lares.store.v1.event_service_pb2_grpc import EventServiceStub

CHUNK_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 30.0
# Of an upload: the codes after which it is tried again. FAILED_PRECONDITION is OFFSET_MISMATCH, if more has
# arrived than the server told before.
MAY_PASS = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
)
ATTEMPTS, RETRY_SECONDS = 10, 2.0

Metadata = tuple[tuple[str, str], ...]


def main() -> None:
    options = parser().parse_args()
    try:
        key = options.key or options.key_file.read_text().strip()
        with open_channel(options.address, options.tls_ca) as channel:
            metadata = (("x-api-key", key),)
            if options.upload:
                upload(channel, metadata, options.camera or "front-door", options.upload)
            elif options.watch:
                watch(channel, metadata, options.after, [options.camera] if options.camera else [])
            else:
                list_events(channel, metadata, options.count)
    except KeyboardInterrupt:
        pass
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} does not exist") from None
    except grpc.RpcError as error:
        raise SystemExit(f"{error.code().name}: {error.details()}") from None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--key", help="an API key")
    parser.add_argument(
        "--key-file", type=Path, default=Path("data/admin.key"), help="a file that contains an API key"
    )
    parser.add_argument("--tls-ca", type=Path, help="use TLS and trust the authorities in this PEM file")
    parser.add_argument("--count", type=int, default=20, help="how many events to list, at most 200")
    parser.add_argument("--watch", action="store_true", help="follow changes")
    parser.add_argument("--after", type=int, help="start after this cursor; 0 is before the oldest change")
    parser.add_argument(
        "--upload", type=Path, metavar="FILE", help="upload a photo or clip; goes on after lost connections"
    )
    parser.add_argument(
        "--camera",
        help="a camera's id: the camera of the file that --upload sends (by default front-door), or the "
        "only camera that --watch follows",
    )
    return parser


def open_channel(address: str, tls_ca: Path | None) -> grpc.Channel:
    if tls_ca is None:
        return grpc.insecure_channel(address)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(tls_ca.read_bytes()))


def list_events(channel: grpc.Channel, metadata: Metadata, count: int) -> None:
    """Lists the newest events first. For more than 200, repeat the request with the response's
    `next_page_token`."""
    request = ListEventsRequest(page_size=count)
    response = EventServiceStub(channel).ListEvents(request, metadata=metadata, timeout=TIMEOUT_SECONDS)
    for event in response.events:
        print(line(event))


def watch(channel: grpc.Channel, metadata: Metadata, after: int | None, cameras: list[str]) -> None:
    """Has no deadline, because the stream does not end. A client that starts again after the last cursor it
    has seen misses no change and sees none twice. With --camera the stream also contains bookmarks, which are
    cursors that are closer to the present."""
    request = WatchEventsRequest(after=after, camera_ids=cameras)
    for response in EventServiceStub(channel).WatchEvents(request, metadata=metadata):
        if response.HasField("bookmark"):
            print(response.bookmark, "examined", flush=True)
            continue
        change = response.change
        print(change.sequence, "deleted" if change.deleted else line(change.event), flush=True)


def upload(channel: grpc.Channel, metadata: Metadata, camera: str, path: Path) -> None:
    """Uploading the same file again returns the same media id. If the connection is lost, asks how much has
    arrived and sends the rest. There is no deadline, since the server ends an upload that stalls."""
    service = IngestServiceStub(channel)
    with path.open("rb") as file:
        header = UploadHeader(
            camera_id=camera,
            sha256=hashlib.file_digest(file, "sha256").hexdigest(),
            size_bytes=path.stat().st_size,
            file_name=path.name,
        )
        for attempt in range(ATTEMPTS):
            try:
                kept = GetUploadRequest(camera_id=camera, sha256=header.sha256)
                found = service.GetUpload(kept, metadata=metadata, timeout=TIMEOUT_SECONDS)
                header.offset = found.received_bytes
                response = service.UploadMedia(upload_requests(header, file), metadata=metadata)
                print(f"media {response.media_id}")
                return
            except grpc.RpcError as error:
                if attempt + 1 == ATTEMPTS or error.code() not in MAY_PASS:
                    raise
                time.sleep(RETRY_SECONDS)


def upload_requests(header: UploadHeader, file: BinaryIO) -> Iterator[UploadMediaRequest]:
    yield UploadMediaRequest(header=header)
    file.seek(header.offset)
    while chunk := file.read(CHUNK_BYTES):
        yield UploadMediaRequest(chunk=chunk)


def line(event: Event) -> str:
    status = EventStatus.Name(event.status).removeprefix("EVENT_STATUS_")
    began = event.started_at.ToJsonString()
    text = f"{event.id} {began} {event.camera_id} {','.join(event.labels)} {status}"
    if event.HasField("assessment"):
        assessment = event.assessment
        severity = Severity.Name(assessment.severity).removeprefix("SEVERITY_")
        text += f" {assessment.score} {severity}: {assessment.summary}"
    return visible(text)


def visible(text: str) -> str:
    """A camera's name or a label may hold what a terminal obeys."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


if __name__ == "__main__":
    main()
