"""What loggers show of a study, read back by each tool's own reader, in one form for all of them."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from hiri_search.study.ledger.ledger import read_events, trials
from hiri_search.study.ledger.trial import zero_cost_columns
from tests.study.waiting import wait_until

Curve = list[tuple[int, dict[str, float]]]  # steps in the order in which they were written, and their values
FIRST_BLOCK, BLOCK, HEADER = 7, 32_768, 7  # bytes of W&B's files, which are logs of LevelDB with a head of their own
TENSORBOARD_STATES = {1: "finished", 2: "failed", 0: "unfinished"}  # of tensorboard.hparams.Status
MLFLOW_STATES = {"FINISHED": "finished", "FAILED": "failed", "SCHEDULED": "unfinished", "RUNNING": "unfinished"}


@dataclass(frozen=True)
class Shown:
    """A run of a tool."""

    state: str
    curve: Curve
    parameters: dict[str, str]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Shown)
        same = self.state == other.state and self.parameters == other.parameters and len(self.curve) == len(other.curve)
        return same and all(map(_same_point, self.curve, other.curve))


def _same_point(one: tuple[int, dict[str, float]], other: tuple[int, dict[str, float]]) -> bool:
    """Compare two points; TensorBoard keeps single precision."""
    close = all(math.isclose(one[1][name], other[1].get(name, math.nan), rel_tol=1e-6) for name in one[1])
    return one[0] == other[0] and one[1].keys() == other[1].keys() and close


def in_ledger(folder: Path) -> list[Shown]:
    """Return what every tool shall show: the trials of the ledger, each once."""
    return [
        Shown(
            trial.state,
            _zero_cost(trial.zero_cost)
            + [
                (epoch.epoch, {k: v for k, v in epoch.row().items() if v is not None and k != "epoch"})
                for epoch in trial.curve
            ],
            {"spec": trial.network.spec, "params": str(trial.network.params), "seed": str(trial.asked.seed)},
        )
        for trial in trials(read_events(folder))
    ]


def _zero_cost(scores: dict[str, float | None]) -> Curve:
    return [(0, {k: v for k, v in zero_cost_columns(scores).items() if v is not None})] if scores else []


def in_tensorboard(folder: Path) -> list[Shown]:
    return [_tensorboard_run(run) for run in sorted((folder / "tensorboard").iterdir())]


def _tensorboard_run(run: Path) -> Shown:
    assert len(list(run.iterdir())) == 1, "one file for all stints"
    read = EventAccumulator(str(run), size_guidance={"scalars": 0})
    read.Reload()
    curve: dict[int, dict[str, float]] = {}
    for name in read.Tags()["scalars"]:
        steps = [event.step for event in read.Scalars(name)]
        assert steps == sorted(set(steps)), "each step once, in order"
        for event in read.Scalars(name):
            curve.setdefault(event.step, {})[name] = event.value
    plugins = [
        HParamsPluginData.FromString(read.SummaryMetadata(tag).plugin_data.content)
        for tag in read.Tags()["tensors"]
        if tag.startswith("_hparams_")
    ]
    params = plugins[0].session_start_info.hparams
    shown = {"spec": params["spec"].string_value, **{k: f"{params[k].number_value:.0f}" for k in ("params", "seed")}}
    return Shown(TENSORBOARD_STATES[plugins[-1].session_end_info.status], sorted(curve.items()), shown)


def in_mlflow(uri: str, experiment: str) -> list[Shown]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found
    runs = client.search_runs([found.experiment_id], order_by=["tags.`hiri_search.trial`"])
    return [_mlflow_run(client, run) for run in runs]


def _mlflow_run(client: MlflowClient, run: Any) -> Shown:
    curve: dict[int, dict[str, float]] = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        steps = [metric.step for metric in history]
        assert steps == sorted(set(steps)), "each step once, in order"
        for metric in history:
            curve.setdefault(metric.step, {})[name] = metric.value
    params = {name: run.data.params[name] for name in ("spec", "params", "seed")}
    return Shown(MLFLOW_STATES[run.info.status], sorted(curve.items()), params)


def in_wandb(folder: Path) -> list[Shown]:
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.name)
    return [_wandb_run(file) for file in files]


def _wandb_run(file: Path) -> Shown:
    curve, config, summary, ended = [], {}, {}, False
    for content in _wandb_records(file.read_bytes()):
        record = Record.FromString(content)
        match record.WhichOneof("record_type"):
            case "run":
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            case "history":
                values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                step = values.pop("_step")
                curve.append((step, {name: value for name, value in values.items() if not name.startswith("_")}))
            case "summary":
                items = record.summary.update
                summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            case "exit":
                ended = True
    assert ended, "the run was ended"
    params = {name: str(config[name]) for name in ("spec", "params", "seed")}
    return Shown(summary["state"], curve, params)


def _wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log of LevelDB: a record that spans blocks is cut into parts."""
    place, parts = FIRST_BLOCK, b""
    while place < len(content):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # a whole record, or its last part
            yield parts
            parts = b""


@contextmanager
def mlflow_server(folder: Path, port: int = 0) -> Iterator[str]:
    """Start MLflow's tracking server on loopback; yield its URI."""
    port = port or free_port()
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, *store], stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"), alive=lambda: server.poll() is None)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def _answers(address: str) -> bool:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=10) as answer:
        return bool(answer.status == 200)
    return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])
