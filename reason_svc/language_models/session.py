"""Asks a model about one event: with a prompt that fits, in a format that the server accepts.

If the answer cannot be parsed, it asks once more.
"""

from dataclasses import dataclass

from mesh.problems import Internal, Problem
from reason_svc.evidence import Evidence
from reason_svc.language_models.answer_formats import AnswerFormats, Refusal, format_refusal
from reason_svc.language_models.client import LlmClient
from reason_svc.language_models.event_prompt import EventPrompt
from reason_svc.language_models.model_answer import BAD_ANSWER, ExampleRepeated, ModelAnswer, parse_answer
from reason_svc.language_models.model_families import ModelFamily, system_message
from reason_svc.language_models.prompt_sanitizer import quote_answer
from reason_svc.language_models.prompts import Prompt
from reason_svc.language_models.responses import (
    PromptTooLong,
    completion_text,
    error_message,
    member_list,
    problem_of,
    token_usage,
    with_true_status,
)
from reason_svc.language_models.servers import LlmServer, Message, chat_request
from reason_svc.language_models.url import LlmEndpoint
from reason_svc.reasoner import TokenUsage

MAX_ANSWER_TOKENS = 1024  # the schema's limits need about half of it
TEMPLATE_TOKENS = 64  # a generous bound of what a chat template adds to two messages
MAX_QUOTE_LENGTH = 1200


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """The model's last answer, parsed and raw, and the prompt that it answers."""

    answer: ModelAnswer
    event_prompt: EventPrompt
    raw_answer: str


class LlmSession:
    """The requests about one event. `tokens` were used by all requests so far, successful or not. `changes`
    counts the changes of the server until now. `repeatable` is as in `chat_request`."""

    def __init__(
        self,
        client: LlmClient,
        endpoint: LlmEndpoint,
        server: LlmServer,
        family: ModelFamily,
        formats: AnswerFormats,
        changes: int,
        *,
        repeatable: bool,
    ) -> None:
        self._client, self._endpoint = client, endpoint
        self._server, self._family = server, family
        self._formats, self._changes = formats, changes
        self._repeatable = repeatable
        self.tokens = TokenUsage()

    async def assess(self, evidence: Evidence, model: str, prompt: Prompt) -> SessionOutcome:
        """Raises Internal CONTEXT_TOO_SMALL, ANSWER_CUT or BAD_ANSWER, and the Problems that the server's
        errors stand for."""
        system = system_message(self._family, prompt.text)
        candidates = prompt.form.describe(evidence)
        for event_prompt in candidates:
            # The shortest one is sent even if it seems too long: the estimate may be too high.
            if event_prompt is not candidates[-1] and not await self._fits(system + event_prompt.text):
                continue
            user = f"{event_prompt.text}\n\n{prompt.form.question}"
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            try:
                return await self._ask(model, messages, event_prompt, prompt)
            except PromptTooLong:
                continue
        raise Internal(
            f"not even the shortest description of the event fits into {self._server.context} tokens",
            "CONTEXT_TOO_SMALL",
        )

    async def _ask(
        self, model: str, messages: list[Message], event_prompt: EventPrompt, prompt: Prompt
    ) -> SessionOutcome:
        """Asks, and asks the model once to correct an answer that cannot be parsed."""
        raw_answer = ""
        try:
            raw_answer = await self._complete(model, messages, prompt)
            return SessionOutcome(parse_answer(raw_answer, prompt.example), event_prompt, raw_answer)
        except ExampleRepeated as problem:
            # A small model repeats an example as long as it sees one.
            system = system_message(self._family, prompt.text_without_example)
            described = [{"role": "system", "content": system}, *messages[1:]]
            correction = _correction(described, "(the example)", problem)
        except Internal as problem:
            if problem.reason != BAD_ANSWER:
                raise
            correction = _correction(messages, raw_answer, problem)
        try:
            raw_answer = await self._complete(model, correction, prompt)
        except PromptTooLong:
            raise Internal(
                "the answer cannot be parsed, and the context is too small to ask for a correction",
                BAD_ANSWER,
            ) from None
        return SessionOutcome(parse_answer(raw_answer, prompt.example), event_prompt, raw_answer)

    async def _complete(self, model: str, messages: list[Message], prompt: Prompt) -> str:
        """Asks in the strictest format that the server accepts. If it refuses every format, then it refuses
        something else: raises the Problem of its first refusal."""
        refusal: Problem | None = None
        is_certain = True  # that the formats before this one are refused
        for answer_format in self._formats.candidates(model, self._changes):
            body = chat_request(
                self._server.kind,
                self._family,
                model,
                messages,
                self._max_answer_tokens,
                answer_format,
                schema=prompt.form.schema,
                repeatable=self._repeatable,
            )
            response = with_true_status(
                await self._client.post(f"{self._endpoint.base}/chat/completions", body)
            )
            problem = None if response.status == 200 else problem_of(response)
            if is_certain and (problem is None or isinstance(problem, PromptTooLong)):
                self._formats.record_accepted(model, answer_format)
            if problem is None:
                self.tokens += token_usage(response)
                return completion_text(response)
            refused = format_refusal(response, error_message(response))
            if isinstance(problem, PromptTooLong) or refused is Refusal.NONE:
                raise problem
            is_certain = is_certain and refused is Refusal.LIKELY
            refusal = refusal or problem
        if is_certain:
            self._formats.forget(model)
        assert refusal
        raise refusal

    async def _fits(self, text: str) -> bool:
        """Whether a prompt leaves room for the answer: by an estimate, else by the server's own count."""
        room = self._server.context - self._max_answer_tokens - TEMPLATE_TOKENS
        if estimate_tokens(text) <= room:
            return True
        if not self._server.counts_tokens:
            return False
        response = await self._client.post(f"{self._endpoint.root}/tokenize", {"content": text})
        tokens = member_list(response.body, "tokens")
        return response.status == 200 and 0 < len(tokens) <= room

    @property
    def _max_answer_tokens(self) -> int:
        return min(MAX_ANSWER_TOKENS, self._server.context // 3)


def estimate_tokens(text: str) -> int:
    """Returns a high estimate: one token for three ASCII letters or spaces, and one for every other byte."""
    letters = sum(character.isascii() and (character.isalpha() or character == " ") for character in text)
    return -(-letters // 3) + len(text.encode()) - letters


def _correction(messages: list[Message], raw_answer: str, problem: Problem) -> list[Message]:
    """Returns the messages with the bad answer and what is wrong with it. The answer is sanitized, because
    the event's data may have made the model write tokens of a chat template."""
    return [
        *messages,
        {"role": "assistant", "content": quote_answer(raw_answer, MAX_QUOTE_LENGTH) or "(nothing)"},
        {
            "role": "user",
            "content": f"That cannot be used: {problem.message}. Answer with the JSON object alone.",
        },
    ]
