"""What is measured of the reasoner."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from mesh.telemetry.metrics import Instrument
from reason_svc.reasoner import Reasoner

TOKENS = Instrument(
    "lares_reasoner_tokens_total",
    "counter",
    "Tokens of the language model, for this process: `prompt`, `cached` (those prompt tokens that the server"
    " had in its cache), `completion`.",
    ("kind",),
)
INSTRUMENTS = (TOKENS,)


async def sample(reasoner: Reasoner) -> Iterable[Metric]:
    used = reasoner.report().tokens
    by_kind = {("prompt",): used.prompt, ("cached",): used.cached, ("completion",): used.completion}
    return [TOKENS.family(by_kind)]
