"""Options of URLs."""

import pytest

from mesh.url_options import number, one_of, read_options, text

FORMS = {"threads": number(1, 64), "tls": one_of("true", "false"), "model": text}


def test_each_option_is_read_by_its_form() -> None:
    assert read_options("threads=64&tls=true&model=a%26b", FORMS) == {
        "threads": 64,
        "tls": "true",
        "model": "a&b",
    }
    assert read_options("", FORMS) == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("colour=red", "there is no option colour; there are threads, tls, model"),
        ("threads=1&threads=2", "the option threads is there twice"),
        ("threads=0", "threads=0: it must be a number from 1 to 64"),
        ("threads=\u0663", "a number from 1 to 64"),
        ("threads=" + "9" * 5000, "a number from 1 to 64"),
        ("threads=" + "0" * 19 + "5" + "9" * 5, "a number from 1 to 64"),
        ("tls=yes", "tls=yes: it must be one of true, false"),
        ("model=", "model=: it must be not empty"),
        ("threads", "bad query field"),
    ],
)
def test_what_does_not_fit_is_said(query: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_options(query, FORMS)


@pytest.mark.parametrize("query", ["secret=1", "secret", "threads=secret", "tls=secret"])
def test_a_query_that_may_hold_a_secret_is_not_repeated(query: str) -> None:
    with pytest.raises(ValueError, match=r"option|must be") as refused:
        read_options(query, FORMS, quote=False)
    assert "secret" not in str(refused.value)
