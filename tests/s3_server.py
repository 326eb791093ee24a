"""An S3 server on loopback for tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

SECRET = "sEcrEt/of+the/environment"
BUCKET = "studies"


class Server:
    """An S3 server that can end, and begin again on the same port with the same content."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.port = 0
        self.begin()

    def begin(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def end(self) -> None:
        self._server.stop()

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "AKIAOFTHETESTS",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def serving() -> Iterator[Server]:
    """Start a server with a bucket, and point the environment of this process to it."""
    import boto3
    from s3fs import S3FileSystem

    server = Server()
    S3FileSystem.clear_instance_cache()  # clients of earlier servers
    original = dict(os.environ)
    os.environ.update(server.environment())
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield server
    finally:
        os.environ.clear()
        os.environ.update(original)
        server.end()
