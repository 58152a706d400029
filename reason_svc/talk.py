"""One event put to a model: told so that it fits, asked once more if the answer cannot be read."""

from dataclasses import dataclass

from mesh.problems import Internal, Problem
from reason_svc.account import Account, accounts
from reason_svc.answer import BAD_ANSWER, Answer, read_answer
from reason_svc.client import Client
from reason_svc.evidence import Evidence
from reason_svc.families import Family, system_text
from reason_svc.fence import quoted
from reason_svc.prompt import Prompt
from reason_svc.replies import TooLong, members, refusal, said, tokens_of
from reason_svc.servers import Message, Server, chat_body
from reason_svc.verdict import Tokens

MOST_ANSWER = 1024  # tokens; the schema's bounds need about half
TEMPLATE_TOKENS = 64  # what a chat template adds to two messages, generously
MOST_QUOTE = 1200


@dataclass(frozen=True, slots=True)
class Outcome:
    """`raw` is the content of the last answer, as it came; `account` is what it was an answer to."""

    answer: Answer
    account: Account
    raw: str


class Talk:
    """`tokens` are those of all calls so far, whatever comes of them. `root` is where the server's own pages
    are, `base` its API."""

    def __init__(self, client: Client, base: str, root: str, server: Server, family: Family) -> None:
        self._client, self._base, self._root = client, base, root
        self._server, self._family = server, family
        self.tokens = Tokens()

    async def judge(self, evidence: Evidence, model: str, prompt: Prompt) -> Outcome:
        """Raises Internal CONTEXT_TOO_SMALL, ANSWER_CUT, BAD_ANSWER, and what the server's refusals mean."""
        system = system_text(self._family, prompt.text)
        told = accounts(evidence)
        for account in told:
            if account is not told[-1] and not await self._fits(system + account.text):
                continue
            messages = [
                {"role": "system", "content": system},
                {
                    "role": "user",
                    "content": account.text + "\n\nJudge this event. Answer with the JSON object.",
                },
            ]
            try:
                return await self._answered(model, messages, account)
            except TooLong:
                continue
        raise Internal(
            f"not even the shortest telling fits into a context of {self._server.context} tokens",
            "CONTEXT_TOO_SMALL",
        )

    async def _answered(self, model: str, messages: list[Message], account: Account) -> Outcome:
        raw = ""
        try:
            raw = await self._say(model, messages)
            return Outcome(read_answer(raw), account, raw)
        except Internal as problem:
            if problem.reason != BAD_ANSWER:
                raise
            again = _repair(messages, raw, problem)
        try:
            raw = await self._say(model, again)
        except TooLong:
            raise Internal(
                "the answer was no judgement, and there is no room to ask again", BAD_ANSWER
            ) from None
        return Outcome(read_answer(raw), account, raw)

    async def _say(self, model: str, messages: list[Message]) -> str:
        body = chat_body(self._server.kind, self._family, model, messages, self._answer_tokens)
        reply = await self._client.post(f"{self._base}/chat/completions", body)
        if reply.status != 200:
            raise refusal(reply)
        self.tokens += tokens_of(reply)
        return said(reply)

    async def _fits(self, text: str) -> bool:
        """By a count that cannot be too low where it is cheap, else by the server's own."""
        room = self._server.context - self._answer_tokens - TEMPLATE_TOKENS
        if estimate(text) <= room:
            return True
        if not self._server.counts:
            return False
        reply = await self._client.post(f"{self._root}/tokenize", {"content": text})
        tokens = members(reply.body, "tokens")
        return reply.status == 200 and 0 < len(tokens) <= room

    @property
    def _answer_tokens(self) -> int:
        return min(MOST_ANSWER, self._server.context // 3)


def estimate(text: str) -> int:
    """Tokens, rather too many: three letters of English in one, every other byte for itself."""
    letters = sum(character.isascii() and (character.isalpha() or character == " ") for character in text)
    return -(-letters // 3) + len(text.encode()) - letters


def _repair(messages: list[Message], raw: str, problem: Problem) -> list[Message]:
    """The same once more, with the bad answer and what is wrong with it. The model's words are quoted like
    anybody's: it may have been led to write what a template is made of."""
    return [
        *messages,
        {"role": "assistant", "content": quoted(raw, MOST_QUOTE) or "(nothing)"},
        {
            "role": "user",
            "content": f"That cannot be used: {problem.message}. Answer with the JSON object alone.",
        },
    ]
