"""The lines that `lares demo` and the examples print."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import demo
from deploy.samples import sample_photos
from examples import grpc_client, kafka_consumer
from lares.reason.v1.assessment_pb2 import Assessment
from lares.store.v1.event_pb2 import Event
from lares.store.v1.events_pb2 import EventChanged
from mesh.config import load_config
from tests.support.photos import CACHE
from tests.support.rendered_clips import seen

HOSTILE = "\x1b]0;owned\x07\n\x9b2J\u202e"
EVENT = Event(
    id="1", camera_id="front", camera_name=f"Küche {HOSTILE}", labels=[f"dog{HOSTILE}"],
    assessment=Assessment(score=3, summary=f"A dog.{HOSTILE}"),
)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        lambda: demo.line(EventChanged(event=EVENT)),
        lambda: grpc_client.line(EVENT),
        lambda: kafka_consumer.line(EventChanged(event=EVENT)),
    ],
)
def test_names_cannot_give_the_terminal_orders(line: Callable[[], str]) -> None:
    assert line().isprintable()
    assert r"A dog.\x1b]0;owned\x07\n\x9b2J\u202e" in line()
    assert "dog" in line()


async def test_the_clip_is_made_of_the_photos(tmp_path: Path) -> None:
    clip = await demo.make_clip(sample_photos(CACHE))
    assert clip
    (tmp_path / "clip.mp4").write_bytes(clip)
    look = seen(tmp_path / "clip.mp4")
    assert (look.codec, look.times[-1]) == ("h264", 7.9)
    assert abs(look.pictures[0].astype(int) - look.pictures[-1]).max() > 100


async def test_no_clip_is_made_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    assert await demo.make_clip([]) is None


def test_how_to_get_the_clip_of_an_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LARES_HOME", str(tmp_path / "my home"))
    command = demo.clip_command(load_config(), "the-id")
    assert shlex.split(command)[-1] == "http://127.0.0.1:8000/events/the-id/clip"
    assert f"'{tmp_path}/my home/admin.key'" in command
