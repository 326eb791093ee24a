"""Redaction removes secrets from URLs and texts."""

import os

import pytest

from hiri_search.system.redaction import redacted, secret_in, short_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("/a/path@home?x", "/a/path@home?x"),
        ("s3://KEY:SECRET@bucket/a", "s3://***@bucket/a"),
        ("s3://KEY:SEC/RET+=@bucket/a", "s3://***@bucket/a"),
        ("simplecache::s3://KEY:SECRET@bucket/a", "simplecache::s3://***@bucket/a"),
        ("https://host/a?token=SECRET&more=SECRET", "https://host/a?***"),
        ("https://host/a#SECRET", "https://host/a#***"),
        ("could not reach 'http://me:SECRET@host:9000/b', nor s3://b", "could not reach 'http://***@host:9000/b', nor s3://b"),
        ("--set storage=s3://KEY:SECRET@bucket", "--set storage=s3://***@bucket"),
    ],
)  # fmt: skip
def test_possible_secrets_are_hidden(text: str, expected: str):
    assert redacted(text, {}) == expected
    assert "SECRET" not in redacted(text, {})


def test_secrets_of_the_environment_are_hidden():
    environment = {"AWS_SECRET_ACCESS_KEY": "abc/def/ghi", "FSSPEC_FTP_PASSWORD": "hunter22", "HOME": "/home/somebody"}
    text = "403 for abc/def/ghi, hunter22 at /home/somebody"
    assert redacted(text, environment) == "403 for ***, *** at /home/somebody"


def test_given_secrets_are_hidden_wherever_they_are():
    text = "password authentication failed for hunter2 and hunter2x at postgresql+psycopg://me:hunter2@host/db?key=abc"
    shown = redacted(text, {}, secrets=["", "hunter2", "hunter2x", "abc"])
    assert shown == "password authentication failed for *** and *** at postgresql+psycopg://***@host/db?***"


@pytest.mark.parametrize("url", ["s3://bucket/a", "/mnt/a?b", "sftp://me@host/a", "abfs://box@account.host/a", "a@b:c"])
def test_a_url_without_a_secret_is_accepted(url: str):
    assert secret_in(url) == ""


@pytest.mark.parametrize("url", ["s3://K:S@b", "s3://K@b", "s3://b#a", "sftp://me:pw@host/a", "https://h/?sig=a"])
def test_a_url_with_a_secret_is_described(url: str):
    assert secret_in(url)


@pytest.mark.parametrize("home", ["/home/me", "/", None])
def test_the_home_folder_is_written_as_a_tilde(home: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # without a name, as in many containers
    monkeypatch.setenv("HOME", home) if home else monkeypatch.delenv("HOME", raising=False)
    expected = "~/a --out=~/b" if home == "/home/me" else "/home/me/a --out=/home/me/b"
    assert short_path("/home/me/a --out=/home/me/b") == expected
