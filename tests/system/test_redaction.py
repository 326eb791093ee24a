"""No secret of a URL is shown."""

import pytest

from hiri_search.system.redaction import redacted, secret_in


@pytest.mark.parametrize(
    ("text", "as_shown"),
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
def test_what_may_be_secret_is_left_out(text: str, as_shown: str):
    assert redacted(text, {}) == as_shown
    assert "SECRET" not in redacted(text, {})


def test_nor_a_secret_of_the_environment():
    environment = {"AWS_SECRET_ACCESS_KEY": "abc/def/ghi", "FSSPEC_FTP_PASSWORD": "hunter22", "HOME": "/home/somebody"}
    said = "403 for abc/def/ghi, hunter22 at /home/somebody"
    assert redacted(said, environment) == "403 for ***, *** at /home/somebody"


@pytest.mark.parametrize("url", ["s3://bucket/a", "/mnt/a?b", "sftp://me@host/a", "abfs://box@account.host/a", "a@b:c"])
def test_what_holds_none_is_taken(url: str):
    assert secret_in(url) == ""


@pytest.mark.parametrize("url", ["s3://K:S@b", "s3://K@b", "s3://b#a", "sftp://me:pw@host/a", "https://h/?sig=a"])
def test_what_holds_one_is_not(url: str):
    assert secret_in(url)
