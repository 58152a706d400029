"""What the scripted model says of an event: always the same of the same camera."""

import hashlib
import json
import re
from typing import Any

from aiohttp import web

from tests.support.scripted_llm import says

CAMERA = re.compile(r"^camera: (.+)$", re.MULTILINE)
# A camera with this in its name is judged badly while the home is made.
BROKEN = "Broken"


def camera_of(body: dict[str, Any]) -> str:
    """The camera's name, out of what the model was told."""
    named = CAMERA.search(body["messages"][1]["content"])
    assert named, body
    return named[1]


def answer(camera: str) -> str:
    """The raw answer: a score of the camera's own."""
    score = int(hashlib.sha256(camera.encode()).hexdigest(), 16) % 101
    reasons = [{"text": f"as the script says of {camera}", "detections": [1]}]
    return json.dumps({"reasons": reasons, "score": score, "summary": f"Seen at {camera}."})


async def answers(request: web.Request) -> web.StreamResponse:
    camera = camera_of(await request.json())
    return await says(answer(camera))(request)


async def answers_but_broken(request: web.Request) -> web.StreamResponse:
    camera = camera_of(await request.json())
    return await says("I would rather not say." if BROKEN in camera else answer(camera))(request)
