"""Optuna's dashboard served on loopback."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from hiri_search.study.errors import StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_HOST = "127.0.0.1"  # every visitor of the dashboard may delete studies: only this machine may visit


def check_can_serve(port: int) -> None:
    """Raise StudyError if the dashboard is not installed or the port is not free."""
    try:
        import optuna_dashboard  # noqa: F401
    except ImportError:
        raise StudyError('the dashboard is not installed: pip install "hiri-search[dashboard]"') from None
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as error:
        raise StudyError(f"--port {port}: {os.strerror(error.errno or 0)}; give another port") from error


def serve(storage: BaseStorage, port: int) -> None:
    """Serve the dashboard until Ctrl-C; it writes its address and every request to stderr."""
    from optuna_dashboard import run_server

    run_server(storage, host=_HOST, port=port)
