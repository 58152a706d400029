"""The grammar of an LLM server's URL."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.problems import Invalid
from reason_svc.address import Address, Kind, read_address
from reason_svc.families import Family, family_of, system_text


def test_all_that_can_be_said() -> None:
    address = read_address(
        "openai+https://:k%2Fey@llm.lan:8080/v1/?model=nvidia/nano&server=trtllm&family=nemotron-3-nano"
        "&context=8192&slots=6"
    )
    assert address == Address(
        base="https://llm.lan:8080/v1",
        model="nvidia/nano",
        key="k/ey",
        kind=Kind.TRTLLM,
        family=Family.NEMOTRON_3_NANO,
        context=8192,
        slots=6,
    )
    assert address.root == "https://llm.lan:8080"
    assert "k/ey" not in repr(address)


def test_the_least_that_must_be_said() -> None:
    assert read_address("openai+http://[::1]/v1?model=m") == Address(base="http://[::1]/v1", model="m")
    proxied = read_address("openai+http://host/llm/v1?model=m%26n")
    assert (proxied.base, proxied.root, proxied.model) == ("http://host/llm/v1", "http://host/llm", "m&n")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("openai+http://host/v1", "model= is missing"),
        ("openai+http://host/v1?model=", "model= is missing"),
        ("openai+http://host/v1?model", "no URL"),
        ("openai+http:///v1?model=m", "no URL"),
        ("openai+ftp://host/v1?model=m", "no URL"),
        ("http://host/v1?model=m", "no URL"),
        ("openai+http://host:99999/v1?model=m", "no URL"),
        ("openai+http://[::1/v1?model=m", "no URL"),
        ("openai+http://host/v1?model=m#x", "no URL"),
        (f"openai+http://{64 * 'h'}/v1?model=m", "no URL"),
        ("openai+http://:SECRET%0A@host/v1?model=m", "no control characters"),
        ("openai+http://SECRET@host/v1?model=m", "`:key@`"),
        ("openai+http://me:SECRET@host/v1?model=m", "`:key@`"),
        ("openai+http://:@host/v1?model=m", "`:key@`"),
        ("openai+http://host/v1?model=m&key=SECRET", "options are model"),
        ("openai+http://host/v1?model=m&model=n", "each once"),
        ("openai+http://host/v1?model=m&server=SECRET", "server= is one of llama.cpp"),
        ("openai+http://host/v1?model=m&family=SECRET", "family= is one of plain"),
        ("openai+http://host/v1?model=m&slots=0", "slots= is a number from 1"),
        ("openai+http://host/v1?model=m&slots=²", "slots= is a number from 1"),
        ("openai+http://host/v1?model=m&context=100", "context= is a number from 512"),
    ],
)
def test_what_does_not_fit_is_refused_without_its_secrets(url: str, why: str) -> None:
    with pytest.raises(Invalid, match="LARES_REASONER_URL") as refused:
        read_address(url)
    assert why in refused.value.message
    assert refused.value.reason == "BAD_SETTING"
    assert "SECRET" not in refused.value.message


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"openai+http://{text}", f"openai+http://h/v1?model=m&{text}"):
        with contextlib.suppress(Invalid):
            assert read_address(url).model


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8", Family.NEMOTRON_3_NANO),
        ("nemotron-3-nano:30b", Family.NEMOTRON_3_NANO),
        ("Nemotron_3_Nano.Q4_K_M", Family.NEMOTRON_3_NANO),
        ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", Family.NEMOTRON_NANO_9B_V2),
        ("nemotron-nano-9b-v2-Q8_0", Family.NEMOTRON_NANO_9B_V2),
        ("NVIDIA-Nemotron-Nano-12B-v2", Family.PLAIN),
        ("qwen2.5-7b-instruct", Family.PLAIN),
        ("", Family.PLAIN),
    ],
)
def test_families_are_known_by_name(model: str, family: Family) -> None:
    assert family_of(model) is family


def test_only_one_family_has_its_switch_in_the_system_prompt() -> None:
    assert [system_text(family, "Judge.").endswith("/no_think") for family in Family] == [False, False, True]
