"""Opens the judge that LARES_REASONER_URL names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.config import Config
from mesh.problems import Invalid
from reason_svc.reasoner import Reasoner
from reason_svc.rules import Rules

THERE_IS = "there is `rules:`, `openai+http(s)://host:port/v1?model=...` and `llama:/path/model.gguf`"


@asynccontextmanager
async def open_reasoner(config: Config, url: str) -> AsyncIterator[Reasoner]:
    """`url` is `mesh.reasoner_url`. A server that is away is waited for, not missed: it is no reason not to
    start. Raises Invalid BAD_SETTING, without anything secret."""
    if url == "rules:":
        yield Rules()
    elif url.startswith(("openai+http://", "openai+https://")):
        async with _open_llm(config, url) as reasoner:
            yield reasoner
    elif url.startswith("llama:"):
        # deploy brings that server up and hands its address on.
        raise Invalid(
            "LARES_REASONER_URL: `llama:` is a server of Lares's own, and none was started in this process",
            "BAD_SETTING",
        )
    else:
        raise Invalid(f"LARES_REASONER_URL: there is no such judge; {THERE_IS}", "BAD_SETTING")


@asynccontextmanager
async def _open_llm(config: Config, url: str) -> AsyncIterator[Reasoner]:
    # Only where there is an LLM is HTTP needed.
    from reason_svc.address import read_address
    from reason_svc.client import open_client
    from reason_svc.llm import Llm
    from reason_svc.prompt import load_prompts
    from reason_svc.watch import Watch

    address, prompts = read_address(url), load_prompts()
    if config.reason_prompt not in prompts:
        raise Invalid(f"LARES_REASON_PROMPT: there is {', '.join(prompts)}", "BAD_SETTING")
    async with open_client(address.key, config.reasoner_ca) as client:
        watch = Watch(client.get, address)
        await watch.look()
        looking = asyncio.create_task(watch.run(), name="llm watch")
        try:
            yield Llm(client, address, watch, prompts, config.reason_prompt, config.reason_seconds)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
