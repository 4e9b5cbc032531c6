from __future__ import annotations

import pytest

from devsup.decide.secrets import mask, masked, values

SECRET = ["API_KEY", "DB_PASSWORD", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "PASSWORD", "SENTRY_DSN", "GH_PAT", "openai_apikey"]
SECRET += ["PGPASSWORD", "MYSQL_PWD", "GITHUBTOKEN", "REDISCLI_AUTH", "API_KEYS", "SECRETKEY", "awsSecretKey", "SSH_PRIVATE_KEY"]
OPEN = ["MONKEY", "KEYBOARD", "PWD", "OLDPWD", "PATH", "SSH_AUTH_SOCK", "DESKTOP_SESSION", "TOKENIZERS_PARALLELISM", "COMPASS"]
OPEN += ["XAUTHORITY", "SSL_CERT_FILE", "API_KEY_FILE"]


@pytest.mark.parametrize("name", SECRET)
def test_a_name_that_says_secret(name: str) -> None:
    assert values({name: "12345678"}) == ("12345678",)
    assert values({name: "1234567"}) == ()


@pytest.mark.parametrize("name", OPEN)
def test_a_name_that_only_looks_alike(name: str) -> None:
    assert values({name: "1234567890"}) == ()


def test_the_longest_goes_first() -> None:
    secrets = values({"A_KEY": "abcdefgh", "B_KEY": "abcdefgh-more"})
    assert mask("abcdefgh-more and abcdefgh", secrets) == "••• and •••"


def test_passwords_in_urls_go_as_well() -> None:
    assert mask("postgres://u:p@ss@h and redis://:pa/ss@h", ()) == "postgres://u:•••@h and redis://:•••@h"
    assert mask("at redis://:pw@host/0, http://localhost:8000/a@b", ()) == "at redis://:•••@host/0, http://localhost:8000/a@b"


def test_values_of_any_depth() -> None:
    assert masked({"a": ["x abcdefgh", {"b": "abcdefgh"}], "c": 3}, ("abcdefgh",)) == {"a": ["x •••", {"b": "•••"}], "c": 3}


@pytest.mark.parametrize("left", range(6, 12))
def test_the_beginning_that_a_cut_has_left(left: int) -> None:
    secret = "sk-abcdefghi"
    assert mask(f"key {secret[:left]}", (secret,)) == "key •••"
    assert mask(f"key {secret[:left]}…", (secret,)) == "key •••"
    assert mask("key sk-ab", (secret,)) == "key sk-ab"
