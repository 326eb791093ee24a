"""Local web server that shows the page of a running study."""

from __future__ import annotations

import threading
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hiri_search.cli.results import results_of
from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import as_json, page, policy
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.ledger import read_ledger
from hiri_search.study.ledger.lock import holder
from hiri_search.study.status import Status, status_of

LOOPBACK = "127.0.0.1"
ALLOWED_HOSTS = (LOOPBACK, "localhost")  # that it answers to; any other host is somebody's page that leads here


class LiveReport:
    """What a results folder has to tell, put together again only where there is something new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # several windows ask at once
        self._mark: tuple[object, ...] = ()
        self._known: dict[str, Any] = {"content": None, "trouble": "", "status": None}

    def latest(self) -> dict[str, Any]:
        """`content` and `status` of the study; `trouble` says why they are old, or None."""
        with self._lock:
            if (mark := self._marked()) != self._mark:
                self._mark = mark
                self._read()
            return self._known

    def _marked(self) -> tuple[object, ...]:
        """What changes with every line of the ledger, with another ledger in its place, and when a run ends."""
        try:
            file = (self._folder / LEDGER).stat()
        except OSError:
            return (None,)
        return file.st_ino, file.st_size, file.st_mtime_ns, holder(self._folder).held

    def _read(self) -> None:
        """What was known stays where the ledger cannot be read now."""
        try:
            held = holder(self._folder)
            ledger = read_ledger(self._folder)
            self._known = {
                "content": page_content(results_of(ledger)),
                "trouble": "",
                "status": _short(status_of(ledger, held)),
            }
        except StudyError as error:
            self._known = self._known | {"trouble": str(error)}


def _short(found: Status) -> dict[str, Any]:
    counts = ", ".join(f"{count} {state}" for state, count in found.states.items() if count) or "no trial yet"
    words = f"{counts}; {sum(found.states.values()):,} of {found.wanted:,} asked for"
    return {"running": found.holder.held, "words": words, "seconds_left": found.seconds_left}


class Server(ThreadingHTTPServer):
    """Answers on loopback alone."""

    daemon_threads = True  # a window that is open keeps nothing from ending

    def __init__(self, news: LiveReport, port: int) -> None:
        self.news = news
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
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "ask for this page as http://127.0.0.1")
        elif self.path == "/data":
            self._data()
        elif self.path == "/":
            known = self.server.news.latest()
            self._answer(HTTPStatus.OK, "text/html", page(known["content"], live=True, trouble=known["trouble"]))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there are / and /data here")

    def _data(self) -> None:
        """Nothing where the asker has it already."""
        text = as_json(self.server.news.latest())
        tag = f'"{sha256(text.encode()).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return
        self._answer(HTTPStatus.OK, "application/json", text, ETag=tag)

    def _answer(self, code: HTTPStatus, kind: str, text: str, **more: str) -> None:
        body = text.encode()
        heads = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy(live=True) + "; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **more,
        }
        self.send_response(code)
        for name, value in heads.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the questions of an open window are no news."""


def open_server(folder: Path, port: int) -> Server:
    """What serves the page of a results folder, at any free port where `port` is 0, once it is told to.

    StudyError where there is no such folder, or where the port is not to be had.
    """
    if not folder.is_dir():
        raise StudyError(f"there is no folder {folder}; give the folder of a study, such as results/block_mix")
    try:
        return Server(LiveReport(folder), port)
    except OSError as error:
        raise StudyError(f"port {port} cannot be had ({error.strerror}); leave --port out for a free one") from error
