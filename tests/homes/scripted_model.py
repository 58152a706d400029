"""A scripted model, whose answer depends only on the name of the camera."""

import hashlib
import json
import re
from typing import Any

from aiohttp import web

from tests.support.scripted_llm import says

CAMERA = re.compile(r"^camera: (.+)$", re.MULTILINE)
# While the home is created, the model returns no usable answer for cameras with this in their name.
BROKEN = "Broken"


def camera_of(body: dict[str, Any]) -> str:
    """Returns the camera's name in the prompt."""
    named = CAMERA.search(body["messages"][1]["content"])
    assert named, body
    return named[1]


def answer(camera: str) -> str:
    """Returns the raw answer, with a score that depends on the camera."""
    score = int(hashlib.sha256(camera.encode()).hexdigest(), 16) % 101
    reasons = [{"text": f"as the script says of {camera}", "detections": [1]}]
    return json.dumps({"reasons": reasons, "score": score, "summary": f"Seen at {camera}."})


async def answers(request: web.Request) -> web.StreamResponse:
    camera = camera_of(await request.json())
    return await says(answer(camera))(request)


async def answers_but_broken(request: web.Request) -> web.StreamResponse:
    camera = camera_of(await request.json())
    return await says("I would rather not say." if BROKEN in camera else answer(camera))(request)
