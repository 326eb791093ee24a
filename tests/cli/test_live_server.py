"""The page of a study that runs: told anew when its ledger grows, to this machine alone."""

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
def serving(folder: Path) -> Iterator[Server]:
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: Server, path: str = "/data", **heads: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=heads)
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def told(server: Server) -> dict[str, Any]:
    return json.loads(ask(server).body)  # type: ignore[attr-defined]


def grow(folder: Path, lines: list[bytes]) -> None:
    with (folder / LEDGER).open("ab") as file:
        file.writelines(lines)


@pytest.fixture
def growing(tmp_path: Path) -> tuple[Path, list[bytes]]:
    """The ledger of six trials that is there to begin with, and the lines that a run would go on to write."""
    write(search(12), tmp_path / "whole", 12)
    lines = (tmp_path / "whole" / LEDGER).read_bytes().splitlines(keepends=True)
    half = next(at for at, line in enumerate(lines) if json.loads(line).get("trial") == 6)
    folder = tmp_path / "results"
    folder.mkdir()
    grow(folder, lines[:half])
    return folder, lines[half:]


def test_what_a_ledger_gains_is_told_and_nothing_is_told_twice(growing: tuple[Path, list[bytes]]):
    folder, more = growing
    with serving(folder) as server:
        first = ask(server)
        assert len(json.loads(first.body)["content"]["trials"]["trial"]) == 6  # type: ignore[attr-defined]
        assert ask(server, **{"If-None-Match": first.headers["ETag"]}).status == 304
        grow(folder, more)
        assert len(told(server)["content"]["trials"]["trial"]) == 12


def test_a_line_that_is_being_written_waits_for_its_end(growing: tuple[Path, list[bytes]]):
    folder, (line, *_) = growing
    with serving(folder) as server:
        grow(folder, [line[: len(line) // 2]])
        assert told(server)["trouble"] == ""
        assert len(told(server)["content"]["trials"]["trial"]) == 6
        grow(folder, [line[len(line) // 2 :]])
        assert len(told(server)["content"]["trials"]["trial"]) == 7


def test_it_says_whether_the_study_runs_and_gets_in_nobodys_way(growing: tuple[Path, list[bytes]]):
    folder, _ = growing
    before = sorted(path.name for path in folder.iterdir())
    with serving(folder) as server:
        assert told(server)["status"]["running"] is False
        with locked(folder):
            assert told(server)["status"]["running"] is True
        assert told(server)["status"]["running"] is False
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "ledger.lock"])


def test_a_ledger_that_is_gone_leaves_what_was_known(growing: tuple[Path, list[bytes]]):
    folder, _ = growing
    with serving(folder) as server:
        known = told(server)["content"]
        (folder / LEDGER).rename(folder / "aside")
        assert "holds no ledger.jsonl" in told(server)["trouble"]
        assert told(server)["content"] == known
        (folder / "aside").rename(folder / LEDGER)
        assert told(server)["trouble"] == ""


def test_it_answers_by_its_own_name_alone(growing: tuple[Path, list[bytes]]):
    with serving(growing[0]) as server:
        assert ask(server, "/").status == 200
        assert ask(server, "/", Host=f"localhost:{server.server_port}").status == 200
        assert ask(server, "/", Host="elsewhere.example").status == 403
        assert ask(server, "/../ledger.jsonl").status == 404
        assert "connect-src 'self'" in ask(server, "/").headers["Content-Security-Policy"]
        assert server.server_address[0] == "127.0.0.1"


def test_no_folder_and_a_port_that_is_taken_are_said_in_a_sentence(growing: tuple[Path, list[bytes]], tmp_path: Path):
    with pytest.raises(StudyError, match="there is no folder"):
        open_server(tmp_path / "nowhere", 0)
    with open_server(growing[0], 0) as server, pytest.raises(StudyError, match="leave --port out"):
        open_server(growing[0], server.server_port)


def test_ctrl_c_ends_it_without_a_word(growing: tuple[Path, list[bytes]]):
    command = [sys.executable, "-c", "from hiri_search.cli.main import main; main()", "watch", str(growing[0])]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which who runs tests may have told it not to
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    assert process.stdout is not None
    assert "http://127.0.0.1:" in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_an_open_page_keeps_its_sort_filter_and_scroll_when_there_is_news(growing: tuple[Path, list[bytes]]):
    if CHROMIUM is None:
        pytest.skip("there is no chromium here; apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    folder, more = growing
    with serving(folder) as server, sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window, errors = browser.new_page(viewport={"width": 1280, "height": 800}), []
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.goto(server.address)
        window.wait_for_selector("#live.running, #live:not([hidden])")
        window.locator("#networks thead button", has_text="Top-1 %").first.click()
        window.fill("#networks input", "gflops>0.1")
        window.evaluate("window.scrollTo({top: 500, behavior: 'instant'})")
        before = window.evaluate("scrollY")
        grow(folder, more)
        window.wait_for_function("document.querySelectorAll('#networks tbody tr').length === 12", timeout=60_000)
        scores = window.eval_on_selector_all("#networks tbody tr", "all => all.map(one => one.cells[1].textContent)")
        known = [float(score) for score in scores if score[0].isdigit()]
        assert known == sorted(known), "the best came first before the click"
        assert window.input_value("#networks input") == "gflops>0.1"
        assert window.evaluate("scrollY") == before
        assert errors == []
        browser.close()
