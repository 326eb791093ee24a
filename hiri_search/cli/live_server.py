"""Local web server that shows the page of a running study."""

from __future__ import annotations

import threading
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hiri_search.api.folders import results_of
from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import as_json, page, policy
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_ledger
from hiri_search.study.ledger.lock import holder
from hiri_search.study.status import Status, status_of

LOOPBACK = "127.0.0.1"
ALLOWED_HOSTS = (LOOPBACK, "localhost")  # other values of the Host header come from DNS rebinding


class LiveReport:
    """Content of the page of a results folder, computed again when the ledger changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # several browser windows send requests at the same time
        self._version: tuple[object, ...] = ()
        self._latest: dict[str, Any] = {"content": None, "trouble": "", "status": None}

    def latest(self) -> dict[str, Any]:
        """Return `content` and `status` of the study; `trouble` says why these are old, or is empty."""
        with self._lock:
            if (version := self._ledger_version()) != self._version:
                self._version = version
                self._read()
            return self._latest

    def _ledger_version(self) -> tuple[object, ...]:
        """Return a value that changes with each line of the ledger, with a replaced ledger, and at the end of a run."""
        try:
            file = (self._folder / LEDGER).stat()
        except OSError:
            return (None,)
        return file.st_ino, file.st_size, file.st_mtime_ns, holder(self._folder).held

    def _read(self) -> None:
        """Read the ledger; if it cannot be read, keep the old content and add the reason."""
        try:
            held = holder(self._folder)
            ledger = read_ledger(self._folder)
            self._latest = {
                "content": page_content(results_of(ledger)),
                "trouble": "",
                "status": _summary(status_of(ledger, held)),
            }
        except StudyError as error:
            self._latest = self._latest | {"trouble": str(error)}
        except Exception as error:  # as in the report: whatever one name or number does, the page stays
            self._latest = self._latest | {"trouble": f"the page cannot be made: {type(error).__name__}: {error}"}


def _summary(state: Status) -> dict[str, Any]:
    counts = ", ".join(f"{count} {name}" for name, count in state.states.items() if count) or "no trial yet"
    words = f"{counts}; {sum(state.states.values()):,} of {state.wanted:,} asked for"
    return {"running": state.holder.held, "words": words, "seconds_left": state.seconds_left}


class Server(ThreadingHTTPServer):
    """HTTP server on the loopback address."""

    daemon_threads = True  # an open connection does not delay the end of the process

    def __init__(self, report: LiveReport, port: int) -> None:
        self.report = report
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "hiri_search", ""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in ALLOWED_HOSTS:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "open this page as http://127.0.0.1")
        elif self.path == "/data":
            self._data()
        elif self.path == "/":
            latest = self.server.report.latest()
            self._answer(HTTPStatus.OK, "text/html", page(latest["content"], live=True, trouble=latest["trouble"]))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "not found; this server has / and /data")

    def _data(self) -> None:
        """Send the content as JSON; 304 if the browser has the same content already."""
        text = as_json(self.server.report.latest())
        tag = f'"{sha256(text.encode(errors="backslashreplace")).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return
        self._answer(HTTPStatus.OK, "application/json", text, ETag=tag)

    def _answer(self, code: HTTPStatus, mime_type: str, text: str, **more_headers: str) -> None:
        body = text.encode(errors="backslashreplace")
        headers = {
            "Content-Type": f"{mime_type}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy(live=True) + "; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **more_headers,
        }
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: an open page sends a request every few seconds."""


def open_server(folder: Path, port: int) -> Server:
    """Return a server for the page of a results folder, not started yet; port 0 chooses a free port.

    StudyError where there is no such folder, or where the port is in use.
    """
    if not folder.is_dir():
        raise StudyError(f"there is no folder {folder}; give the folder of a study, such as results/block_mix")
    try:
        return Server(LiveReport(folder), port)
    except OSError as error:
        raise StudyError(f"port {port} is not available ({error.strerror}); leave --port out for a free one") from error
