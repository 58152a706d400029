"""URLs of LLM servers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Invalid
from reason_svc.language_models.model_families import ModelFamily, family_of, system_message
from reason_svc.language_models.url import LlmEndpoint, LlmServerKind, parse_llm_url


def test_every_part_is_read() -> None:
    endpoint = parse_llm_url(
        "openai+https://:k%2Fey@llm.lan:8080/v1/?model=nvidia/nano&server=trtllm&family=nemotron-3-nano"
        "&context=8192&slots=6"
    )
    assert endpoint == LlmEndpoint(
        base="https://llm.lan:8080/v1",
        model="nvidia/nano",
        key="k/ey",
        kind=LlmServerKind.TRTLLM,
        family=ModelFamily.NEMOTRON_3_NANO,
        context=8192,
        slots=6,
    )
    assert endpoint.root == "https://llm.lan:8080"
    assert "k/ey" not in repr(endpoint)


def test_options_are_optional_except_the_model() -> None:
    assert parse_llm_url("openai+http://[::1]/v1?model=m") == LlmEndpoint(base="http://[::1]/v1", model="m")
    proxied = parse_llm_url("openai+http://host/llm/v1?model=m%26n")
    assert (proxied.base, proxied.root, proxied.model) == ("http://host/llm/v1", "http://host/llm", "m&n")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("openai+http://host/v1", "model= is missing"),
        ("openai+http://host/v1?model=", "model=: it must be not empty"),
        ("openai+http://host/v1?model", "not of the form name=value"),
        ("openai+http:///v1?model=m", "it is not "),
        ("openai+ftp://host/v1?model=m", "it is not "),
        ("http://host/v1?model=m", "it is not "),
        ("openai+http://host:99999/v1?model=m", "it is not "),
        ("openai+http://[::1/v1?model=m", "it is not "),
        ("openai+http://host/v1?model=m#x", "it is not "),
        (f"openai+http://{64 * 'h'}/v1?model=m", "it is not "),
        ("openai+http://:SECRET%0A@host/v1?model=m", "must not contain control characters"),
        ("openai+http://SECRET@host/v1?model=m", "`:key@`"),
        ("openai+http://me:SECRET@host/v1?model=m", "`:key@`"),
        ("openai+http://:@host/v1?model=m", "`:key@`"),
        ("openai+http://host/v1?model=m&key=SECRET", "an option is unknown; there are model, server"),
        ("openai+http://host/v1?model=m&model=n", "the option model is there twice"),
        ("openai+http://host/v1?model=m&server=SECRET", "server=: it must be one of llama.cpp"),
        ("openai+http://host/v1?model=m&family=SECRET", "family=: it must be one of plain"),
        ("openai+http://host/v1?model=m&slots=0", "slots=: it must be a number from 1"),
        ("openai+http://host/v1?model=m&slots=²", "slots=: it must be a number from 1"),
        ("openai+http://host/v1?model=m&context=100", "context=: it must be a number from 512"),
    ],
)
def test_errors_do_not_repeat_secrets(url: str, why: str) -> None:
    with pytest.raises(Invalid, match="LARES_REASONER_URL") as refused:
        parse_llm_url(url)
    assert why in refused.value.message
    assert refused.value.reason == "BAD_SETTING"
    assert "SECRET" not in refused.value.message


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for url in (text, f"openai+http://{text}", f"openai+http://h/v1?model=m&{text}"):
        with contextlib.suppress(Invalid):
            assert parse_llm_url(url).model


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", ModelFamily.NEMOTRON_3_NANO),
        ("nemotron-3-nano:30b", ModelFamily.NEMOTRON_3_NANO),
        ("Nemotron_3_Nano.Q4_K_M", ModelFamily.NEMOTRON_3_NANO),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", ModelFamily.NEMOTRON_NANO_9B_V2),
        ("nemotron-nano-9b-v2-Q8_0", ModelFamily.NEMOTRON_NANO_9B_V2),
        ("NVIDIA-Nemotron-Nano-12B-v2", ModelFamily.PLAIN),
        ("qwen2.5-7b-instruct", ModelFamily.PLAIN),
        ("", ModelFamily.PLAIN),
    ],
)
def test_the_family_follows_from_the_name(model: str, family: ModelFamily) -> None:
    assert family_of(model) is family


def test_only_one_family_has_its_switch_in_the_system_prompt() -> None:
    assert [system_message(family, "Judge.").endswith("/no_think") for family in ModelFamily] == [
        False,
        False,
        True,
    ]
