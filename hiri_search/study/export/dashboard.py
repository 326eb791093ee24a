"""Optuna's dashboard served on loopback."""

from __future__ import annotations

from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from hiri_search.study.errors import StudyError
from hiri_search.system.files import Say

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


DASHBOARD_HOST = "127.0.0.1"  # whoever reaches it may change what is there: nobody else is to


def check_installed() -> None:
    """StudyError where the dashboard is not installed."""
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError:
        raise StudyError('the dashboard is not installed: pip install "hiri-search[dashboard]"') from None


def serve(storage: BaseStorage, port: int, say: Say) -> None:
    """Until Ctrl-C; 0 is any port that is free. StudyError where the port is not."""
    from optuna_dashboard import wsgi

    try:
        server = make_server(DASHBOARD_HOST, port, wsgi(storage), server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise StudyError(f"--port {port}: {error.strerror}; leave it out to have a free one") from error
    with server, suppress(KeyboardInterrupt):
        say(f"the dashboard is at http://{DASHBOARD_HOST}:{server.server_port}/ until Ctrl-C")
        server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """One thread for each request: a page asks for several things at once."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass
