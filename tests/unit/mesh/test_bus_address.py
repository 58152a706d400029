"""LARES_BUS_URL: what is understood, and what is refused without repeating it."""

from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed

from mesh.bus.access import KafkaAccess
from mesh.bus.address import KafkaAddress, TokenSource
from mesh.bus.settings import BusSettings
from mesh.config import load_config
from mesh.problems import Invalid
from mesh.secret import Secret

PLAIN = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "u", "sasl_plain_password": "p"}


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("kafka://a:1", {}),
        ("kafka://a:1?security=plaintext", {}),
        ("kafka://a:1,b:2?security=tls", {"security_protocol": "SSL"}),
        ("kafka://u:p@a:1", PLAIN | {"security_protocol": "SASL_PLAINTEXT"}),
        ("kafka://u:p@a:1/?security=tls", PLAIN | {"security_protocol": "SASL_SSL"}),
        (
            "kafka://u:p@[::1]:1?mechanism=SCRAM-SHA-512&security=tls",
            PLAIN | {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"},
        ),
        # As a connection string of a managed service is: everything that is special is percent-encoded.
        (
            "kafka://%24ConnectionString:Endpoint%3Dsb%3A%2F%2Fx%2F%3BKey%3Da%2Bb%3D@a:1?security=tls",
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "$ConnectionString",
                "sasl_plain_password": "Endpoint=sb://x/;Key=a+b=",
            },
        ),
        (
            "kafka://a:1?security=tls&mechanism=OAUTHBEARER&token_file=/t",
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"},
        ),
    ],
)
def test_the_options_of_clients(url: str, login: dict[str, Any]) -> None:
    assert KafkaAddress.parse(url).login_options() == login


def test_where_tokens_are_from() -> None:
    url = "kafka://id:se%40cret@a:1?mechanism=OAUTHBEARER&token_endpoint=https://idp/t&scope=a+b&extensions=x=1,y=2"
    found = KafkaAddress.parse(url).tokens
    assert found == TokenSource("", "https://idp/t", "id", "se@cret", "a b", (("x", "1"), ("y", "2")))
    assert "se@cret" not in repr(KafkaAddress.parse(url))


TOKENS = "mechanism=OAUTHBEARER"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("kafka://u:p@a:1?security=ssl", "security=: it must be one of plaintext, tls"),
        ("kafka://u:p@a:1?mechanism=GSSAPI", "it must be one of PLAIN"),
        ("kafka://u:p@a:1?sercurity=tls", "an option is unknown; there are security"),
        ("kafka://u:p@a:1?security=tls&security=tls", "is there twice"),
        ("kafka://a:1?mechanism=SCRAM-SHA-256", "SCRAM-SHA-256 needs a user and a password"),
        ("kafka://u@a:1", "a user needs a password"),
        (f"kafka://a:1?{TOKENS}", "either token_endpoint or token_file"),
        (f"kafka://u:p@a:1?{TOKENS}&token_endpoint=https://i/&token_file=/t", "either token_endpoint or"),
        (f"kafka://u:p@a:1?{TOKENS}&token_file=/t", "neither a user nor a scope"),
        (f"kafka://a:1?{TOKENS}&token_file=/t&scope=s", "neither a user nor a scope"),
        (f"kafka://a:1?{TOKENS}&token_endpoint=https://i/t", "token_endpoint needs a client"),
        (f"kafka://u:p@a:1?{TOKENS}&token_endpoint=ftp://i/t", "token_endpoint must be https"),
        (f"kafka://u:p@a:1?{TOKENS}&token_endpoint=https://v%40i/t", "without a user"),
        (f"kafka://u:p@a:1?{TOKENS}&token_endpoint=https://i/t&extensions=auth=x", "extensions must be"),
        (f"kafka://u:p@a:1?{TOKENS}&token_endpoint=https://i/t&extensions=x", "extensions must be"),
        ("kafka://u:p@a:1?token_file=/t", "token_file needs mechanism=OAUTHBEARER"),
        ("kafka://u:p@a:1?scope=s", "scope needs mechanism=OAUTHBEARER"),
        ("kafka://u:p@a:1?scope=me@here", "the form is"),
        ("kafka://u:p@", "the form is"),
        ("http://u:p@a:1", "the form is"),
    ],
)
def test_what_does_not_fit_is_refused_without_the_url(url: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        KafkaAddress.parse(url.replace("u:p@", "us3r:s3cret@"))
    assert refused.value.reason == "BAD_BUS_URL"
    assert refused.value.message.startswith("LARES_BUS_URL: ")
    assert reason in refused.value.message
    assert "s3cret" not in refused.value.message


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("kafka://far:1", True),
        ("kafka://u:p@127.0.0.1:1,localhost:2,[::1]:3", True),
        ("kafka://u:p@far:1", False),
        ("kafka://u:p@localhost:1,far:1", False),
        ("kafka://u:p@localhost.far:1", False),
        ("kafka://u:p@far:1?mechanism=SCRAM-SHA-512", False),
        (f"kafka://far:1?{TOKENS}&token_file=/t", False),
        ("kafka://u:p@far:1?security=tls", True),
        (f"kafka://u:p@far:1?security=tls&{TOKENS}&token_endpoint=http://far/t", False),
        (f"kafka://u:p@far:1?security=tls&{TOKENS}&token_endpoint=http://far:80/t", False),
        (f"kafka://u:p@far:1?security=tls&{TOKENS}&token_endpoint=http://localhost:8/t", True),
        (f"kafka://u:p@far:1?security=tls&{TOKENS}&token_endpoint=https://far/t", True),
    ],
)
def test_a_password_goes_unencrypted_to_this_machine_alone(url: str, safe: bool) -> None:
    KafkaAccess(url, BusSettings(allow_plaintext=True))
    if safe:
        KafkaAccess(url)
        return
    with pytest.raises(Invalid, match="LARES_ALLOW_PLAINTEXT") as refused:
        KafkaAccess(url)
    assert refused.value.reason == "BAD_BUS_URL"


def test_the_settings_of_the_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
        monkeypatch.setenv(f"LARES_BUS_{name.upper()}", name)
    values = {
        "BUS_SESSION_SECONDS": "6",
        "TOPIC_REPLICAS": "5",
        "TOPIC_PARTITIONS": "7",
        "ALLOW_PLAINTEXT": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"LARES_{name}", value)
    ca, cert, key = (tmp_path / name for name in ("ca", "cert", "key"))
    assert BusSettings.of(load_config()) == BusSettings(ca, cert, key, True, 6.0, 5, 7)
    monkeypatch.delenv("LARES_BUS_KEY")
    with pytest.raises(Invalid, match="LARES_BUS_CERT and LARES_BUS_KEY must be set together"):
        load_config()


async def test_a_refused_login_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen clients would try it twice a second each. One that has changed is tried at once."""
    url, tried = ["kafka://u:old@localhost:1"], list[str]()

    async def refuse(*_: object, **options: str) -> None:
        tried.append(options["sasl_plain_password"])
        raise SaslAuthenticationFailed("no")

    monkeypatch.setattr("mesh.bus.access.open_connection", refuse)
    access = KafkaAccess(Secret(url[0], lambda: url[-1]))
    for _ in range(3):
        with pytest.raises(KafkaConnectionError, match="refuses the login of u: no"):
            await access.connect("localhost", 1)
    assert tried == ["old"]
    url.append("kafka://u:new@localhost:1")
    for _ in range(3):
        with pytest.raises(KafkaConnectionError, match="refuses the login of u: no"):
            await access.connect("localhost", 1)
    assert tried == ["old", "new"]
    monkeypatch.setattr("mesh.bus.access.REFUSED_SECONDS", 0.0)
    url.append("kafka://u:newest@localhost:1")
    for _ in range(2):
        with pytest.raises(KafkaConnectionError):
            await access.connect("localhost", 1)
    assert tried == ["old", "new", "newest", "newest"]


async def test_a_broker_that_is_down_is_tried_every_time_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    access = KafkaAccess("kafka://localhost:1")
    for _ in range(2):
        with pytest.raises(KafkaConnectionError, match=r"no connection to Kafka at localhost:1: .*onnect"):
            await access.connect("localhost", 1, security_protocol="PLAINTEXT")
    assert access.refusal is None


async def test_a_broker_that_names_another_machine_gets_no_password_either() -> None:
    access = KafkaAccess("kafka://u:p@localhost:1")
    with pytest.raises(KafkaConnectionError, match="would be sent unencrypted to far"):
        await access.connect("far", 9092)
    assert access.refusal is not None
