"""The chat completion request of `trtllm-serve`, which answers 400 to a request with any other field.

From `ChatCompletionRequest` in tensorrt_llm/serve/openai_protocol.py, as of 2026-10.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NEMOTRON_3 = "nemotron-3"


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChatMessage(StrictModel):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class ResponseFormat(StrictModel):
    type: Literal["text", "json", "json_schema", "json_object", "regex", "ebnf", "structural_tag"]
    # `schema` is accepted, too, but has no effect if the type is json_schema.
    json_schema: dict[str, Any]


class ChatRequest(StrictModel):
    messages: list[ChatMessage]
    model: str
    frequency_penalty: float | None = 0.0
    logprobs: bool | None = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int = 1
    presence_penalty: float | None = 0.0
    response_format: ResponseFormat | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    reasoning_effort: Literal["low", "medium", "high", "max", "none"] | None = "low"
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False
    min_tokens: int = 0
    add_generation_prompt: bool = True
    add_special_tokens: bool = False
    chat_template_kwargs: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _check_template_arguments(self) -> "ChatRequest":
        """Newer versions refuse arguments that the model's chat template does not use."""
        if self.chat_template_kwargs and NEMOTRON_3 not in self.model.lower():
            raise ValueError("chat_template_kwargs are not used by this model's chat template")
        return self
