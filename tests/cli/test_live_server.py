"""Server of a running study: new content when the ledger grows, on the loopback address only."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from many import search, write

from hiri_search.cli.live_server import Server, open_server
from hiri_search.study.errors import StudyError
from hiri_search.study.ledger.layout import LEDGER
from hiri_search.study.ledger.lock import locked

CHROMIUM = shutil.which("chromium")


@contextmanager
def _serving(folder: Path) -> Iterator[Server]:
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _request(server: Server, path: str = "/data", **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def _content(server: Server) -> dict[str, Any]:
    return json.loads(_request(server).body)  # type: ignore[attr-defined]


def _append(folder: Path, lines: list[bytes]) -> None:
    with (folder / LEDGER).open("ab") as file:
        file.writelines(lines)


@pytest.fixture
def growing(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A results folder with six trials, and the lines that a run would append to its ledger."""
    write(search(12), tmp_path / "whole", 12)
    lines = (tmp_path / "whole" / LEDGER).read_bytes().splitlines(keepends=True)
    half = next(index for index, line in enumerate(lines) if json.loads(line).get("trial") == 6)
    folder = tmp_path / "results"
    folder.mkdir()
    _append(folder, lines[:half])
    return folder, lines[half:]


def test_new_events_are_sent_and_unchanged_content_is_not_sent_again(growing: tuple[Path, list[bytes]]):
    folder, more = growing
    with _serving(folder) as server:
        first = _request(server)
        assert len(json.loads(first.body)["content"]["trials"]["trial"]) == 6  # type: ignore[attr-defined]
        assert _request(server, **{"If-None-Match": first.headers["ETag"]}).status == 304
        _append(folder, more)
        assert len(_content(server)["content"]["trials"]["trial"]) == 12


def test_a_partly_written_line_is_ignored_until_it_is_complete(growing: tuple[Path, list[bytes]]):
    folder, (line, *_) = growing
    with _serving(folder) as server:
        _append(folder, [line[: len(line) // 2]])
        assert _content(server)["trouble"] == ""
        assert len(_content(server)["content"]["trials"]["trial"]) == 6
        _append(folder, [line[len(line) // 2 :]])
        assert len(_content(server)["content"]["trials"]["trial"]) == 7


def test_the_status_shows_whether_the_study_runs_and_writes_no_file(growing: tuple[Path, list[bytes]]):
    folder, _ = growing
    names = sorted(path.name for path in folder.iterdir())
    with _serving(folder) as server:
        assert _content(server)["status"]["running"] is False
        with locked(folder):
            assert _content(server)["status"]["running"] is True
        assert _content(server)["status"]["running"] is False
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "ledger.lock"])


def test_the_last_content_stays_if_the_ledger_is_missing(growing: tuple[Path, list[bytes]]):
    folder, _ = growing
    with _serving(folder) as server:
        content = _content(server)["content"]
        (folder / LEDGER).rename(folder / "aside")
        assert "holds no ledger.jsonl" in _content(server)["trouble"]
        assert _content(server)["content"] == content
        (folder / "aside").rename(folder / LEDGER)
        assert _content(server)["trouble"] == ""


def test_requests_for_other_hosts_are_refused(growing: tuple[Path, list[bytes]]):
    with _serving(growing[0]) as server:
        assert _request(server, "/").status == 200
        assert _request(server, "/", Host=f"localhost:{server.server_port}").status == 200
        assert _request(server, "/", Host="other.example").status == 403
        assert _request(server, "/../ledger.jsonl").status == 404
        assert "connect-src 'self'" in _request(server, "/").headers["Content-Security-Policy"]
        assert server.server_address[0] == "127.0.0.1"


def test_a_missing_folder_and_a_used_port_are_study_errors(growing: tuple[Path, list[bytes]], tmp_path: Path):
    with pytest.raises(StudyError, match="there is no folder"):
        open_server(tmp_path / "nowhere", 0)
    with open_server(growing[0], 0) as server, pytest.raises(StudyError, match="leave --port out"):
        open_server(growing[0], server.server_port)


def test_ctrl_c_stops_the_server_without_a_message(growing: tuple[Path, list[bytes]]):
    command = [sys.executable, "-c", "from hiri_search.cli.main import main; main()", "watch", str(growing[0])]
    reset = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # the test runner may ignore SIGINT
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=reset)
    assert process.stdout is not None
    assert "http://127.0.0.1:" in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_an_open_page_keeps_sort_filter_and_scroll_position_when_content_changes(growing: tuple[Path, list[bytes]]):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    folder, more = growing
    with _serving(folder) as server, sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window, errors = browser.new_page(viewport={"width": 1280, "height": 800}), []
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.goto(server.address)
        window.wait_for_selector("#live.running, #live:not([hidden])")
        window.locator("#networks thead button", has_text="Top-1 %").first.click()
        window.fill("#networks input", "gflops>0.1")
        window.evaluate("window.scrollTo({top: 500, behavior: 'instant'})")
        scroll_position = window.evaluate("scrollY")
        _append(folder, more)
        window.wait_for_function("document.querySelectorAll('#networks tbody tr').length === 12", timeout=60_000)
        scores = window.eval_on_selector_all("#networks tbody tr", "rows => rows.map(row => row.cells[1].textContent)")
        numbers = [float(score) for score in scores if score[0].isdigit()]
        assert numbers == sorted(numbers), "before the click the best network is first"
        assert window.input_value("#networks input") == "gflops>0.1"
        assert window.evaluate("scrollY") == scroll_position
        assert errors == []
        browser.close()
