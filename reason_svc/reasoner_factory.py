"""Opens the reasoner that LARES_REASONER_URL names."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.config import Config
from mesh.problems import Invalid
from mesh.secret import Secret
from reason_svc.reasoner import Reasoner
from reason_svc.rules.reasoner import CURRENT, VERSIONS, RulesReasoner

URL_FORMS = "`rules:`, `rules:v1`, `openai+http(s)://host:port/v1?model=...` or `llama:/path/model.gguf`"


@asynccontextmanager
async def open_reasoner(config: Config, address: str | Secret) -> AsyncIterator[Reasoner]:
    """Opens the reasoner at `address`, which is `Mesh.reasoner_url`, and closes it after the block.

    An LLM server that cannot be reached is not an error: the reasoner keeps checking it in the background.
    Raises Invalid BAD_SETTING; the message contains no credential.
    """
    secret = Secret.of(address)
    url = secret.value
    if url.startswith("rules:") and (name := _rules_name(url)) in VERSIONS:
        yield RulesReasoner(name)
    elif url.startswith(("openai+http://", "openai+https://")):
        async with _open_language_model(config, secret) as reasoner:
            yield reasoner
    elif url.startswith("llama:"):
        # The composition root starts that server and passes its `openai+http` URL instead.
        raise Invalid(
            "LARES_REASONER_URL: the server of a `llama:` URL was not started in this process", "BAD_SETTING"
        )
    else:
        raise Invalid(f"LARES_REASONER_URL: unknown reasoner; use {URL_FORMS}", "BAD_SETTING")


def _rules_name(url: str) -> str:
    """`rules:` is the current version, and stays so after an upgrade; `rules:v1` names one."""
    version = url.removeprefix("rules:")
    return f"rules/{version}" if version else CURRENT


@asynccontextmanager
async def _open_language_model(config: Config, url: Secret) -> AsyncIterator[Reasoner]:
    # Imported here, because only an LLM needs an HTTP client.
    from reason_svc.language_models.client import open_llm_client
    from reason_svc.language_models.health import LlmHealth
    from reason_svc.language_models.prompts import load_prompts
    from reason_svc.language_models.reasoner import LlmReasoner
    from reason_svc.language_models.url import parse_llm_url

    endpoint, prompts = parse_llm_url(url.value), load_prompts()
    if config.reason_prompt not in prompts:
        raise Invalid(f"LARES_REASON_PROMPT must be one of {', '.join(prompts)}", "BAD_SETTING")
    key = url.parsed(lambda text: parse_llm_url(text).key)
    async with open_llm_client(key, config.reasoner_ca) as client:
        health = LlmHealth(client.get, endpoint)
        await health.probe()
        probing = asyncio.create_task(health.run(), name="llm health")
        try:
            yield LlmReasoner(
                client,
                endpoint,
                health,
                prompts,
                config.reason_prompt,
                config.reason_seconds,
                repeatable=config.reason_repeatable,
            )
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
