"""A language model behind an OpenAI-compatible server, as a judge."""

import asyncio
from dataclasses import replace

from mesh.problems import Internal, Invalid, Problem
from reason_svc import rules
from reason_svc.account import Account
from reason_svc.address import Address, Kind
from reason_svc.answer import Reason
from reason_svc.client import Client
from reason_svc.evidence import Evidence
from reason_svc.families import family_of
from reason_svc.prompt import Prompt
from reason_svc.reasoner import UNKNOWN_MODEL, UNKNOWN_PROMPT, Report, Wish
from reason_svc.servers import SLOTS
from reason_svc.talk import Outcome, Talk
from reason_svc.verdict import Factor, Tokens, Verdict
from reason_svc.watch import Watch

MOST_RAW = 8 * 2**10


class Llm:
    """A Reasoner. `seconds` is the longest that one judgement may take, with all its calls; `version` is the
    one of the `prompts` that is used unless a Wish names another."""

    def __init__(
        self,
        client: Client,
        address: Address,
        watch: Watch,
        prompts: dict[str, Prompt],
        version: str,
        seconds: float,
    ) -> None:
        self._client, self._address, self._watch = client, address, watch
        self._prompts, self._version = prompts, version
        self._seconds = seconds
        self._tokens = Tokens()
        self._rules = rules.Rules()

    @property
    def name(self) -> str:
        return self._watch.seen.kind if self._watch.seen else self._address.kind or Kind.OPENAI

    @property
    def slots(self) -> int:
        return self._watch.seen.slots if self._watch.seen else self._address.slots or SLOTS

    async def judge(self, evidence: Evidence, wish: Wish) -> Verdict:
        """Raises Unavailable LLM_UNREACHABLE or LLM_LOADING and Exhausted LLM_BUSY, which are no attempts;
        Invalid UNKNOWN_MODEL, UNKNOWN_PROMPT; Internal for what the server or the model did wrong."""
        if wish.model == rules.NAME:
            return await self._rules.judge(evidence, wish)
        prompt = self._prompts.get(wish.prompt or self._version)
        if prompt is None:
            raise Invalid(f"there is no such prompt; there is {', '.join(self._prompts)}", UNKNOWN_PROMPT)
        server = self._watch.server()
        model = wish.model or self._address.model
        if model not in server.models:
            raise Invalid(f"there is no such model; there is {', '.join(self._models)}", UNKNOWN_MODEL)
        family = self._address.family or family_of(model)
        talk = Talk(self._client, self._address.base, self._address.root, server, family)
        try:
            outcome = await self._within(talk, evidence, model, prompt)
        except Problem as problem:
            self._watch.judged(problem)
            raise
        finally:
            self._tokens += talk.tokens
        self._watch.judged(None)
        verdict = _verdict(rules.judge(evidence), outcome)
        return replace(
            verdict, reasoner=server.kind.value, model=model, prompt_hash=prompt.digest, tokens=talk.tokens
        )

    def report(self) -> Report:
        return Report(
            self._watch.state,
            self._watch.since,
            self._watch.detail,
            model=self._address.model,
            models=self._models,
            prompt=self._version,
            prompts=tuple(self._prompts),
            tokens=self._tokens,
        )

    @property
    def _models(self) -> tuple[str, ...]:
        seen = self._watch.seen
        return (*(seen.models if seen else (self._address.model,)), rules.NAME)

    async def _within(self, talk: Talk, evidence: Evidence, model: str, prompt: Prompt) -> Outcome:
        try:
            async with asyncio.timeout(self._seconds):
                return await talk.judge(evidence, model, prompt)
        except TimeoutError:
            raise Internal(f"no judgement within {self._seconds:g} s", "ANSWER_TIMEOUT") from None


def _verdict(by_rules: Verdict, outcome: Outcome) -> Verdict:
    """The model's score and words; the rules' factors and their sum beside them."""
    answer = outcome.answer
    own = tuple(_factor(reason, outcome.account) for reason in answer.reasons)
    return replace(
        by_rules,
        score=answer.score,
        summary=answer.summary or by_rules.summary,
        factors=by_rules.factors + own,
        raw_answer=_raw(outcome.raw),
    )


def _factor(reason: Reason, account: Account) -> Factor:
    return Factor("reason", 0, reason.text, account.ids(reason.numbers))


def _raw(content: str) -> str:
    """At most 8 KiB that UTF-8 and a database can hold."""
    content = content.replace("\0", "\ufffd")
    return content.encode(errors="replace")[:MOST_RAW].decode(errors="ignore")
